"""Run a sweep: compute what is missing, store it as it comes, and evaluate at the end, whatever ends it."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Task as Bar
from rich.text import Text

from featlink import costs, results
from featlink.checks import Checked, check_pictures, turned_notice
from featlink.dataset import Dataset, ground_truth, open_dataset
from featlink.errors import CommandError
from featlink.shared.errors import FeatlinkError
from featlink.shared.evaluation.categories import Labels, match
from featlink.shared.evaluation.coco import GroundTruth
from featlink.sweeps import manifest as manifests
from featlink.sweeps.contents import save_contents
from featlink.sweeps.engine import Engine, Failure, Identity, Outcome, Task
from featlink.sweeps.engines import open_engine
from featlink.sweeps.failures import ENTRY, Failures
from featlink.sweeps.figures import write_figures
from featlink.sweeps.options import Options
from featlink.sweeps.pace import Pace, Times, duration, spread
from featlink.sweeps.plan import Entry, jobs, make_plan
from featlink.sweeps.records import Records


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        rows: one per condition; none if no image is complete yet.
        why: ``complete``, ``time budget`` or ``interrupted``.
        failed: what could not be computed, as in the manifest.
        runs: how many runs there are: conditions × seeds.
        times: what this call took.
        planned: how many images the sweep has.
        left: how many of them still lack results.
    """

    rows: list[results.Row]
    why: str
    failed: list[dict[str, Any]] = field(default_factory=list)
    runs: int = 0
    times: Times = field(default_factory=Times)
    planned: int = 0
    left: int = 0


def run_sweep(options: Options, console: Console) -> SweepResult:
    """Compute what a sweep lacks, and write its results.

    Args:
        options: the sweep.
        console: shows the progress.

    Raises:
        FeatlinkError: it cannot begin or continue; what is stored is kept and evaluated.
    """
    began = time.monotonic()
    data = open_dataset(options.dataset, options.truth)
    truth, repairs = ground_truth(data, options.truth)
    if repairs and data.annotations is not None:
        console.print(f"{data.annotations.name} was mended: {repairs}", style="yellow")
    rows = make_plan(options.conditions, options.seeds)
    planned = jobs(rows)
    images = _chosen(data, options)
    with locked(options.out), contextlib.ExitStack() as stack:
        with console.status("starting"):
            checked = _check(images, truth, console)
            engine = stack.enter_context(open_engine(options, [job.condition for job in planned]))
        labels = match(truth.categories, engine.identity.categories)
        if notice := labels.missed(truth):
            console.print(notice, style="yellow")
        manifest = manifests.describe(data, truth, options, engine.identity, rows)
        manifest["dataset"] |= {"repairs": repairs, "categories": notice or ""}
        manifest = manifests.continued(options.out, manifest)
        records = stack.enter_context(Records(options.out, data.name, truth, engine.identity, planned))
        save_contents(options.out, checked.digests, records.evaluated())
        manifests.write(options.out, manifest)
        failures = Failures([job.name for job in planned], data.images)
        failures.recall(manifest)
        tasks = []
        for image_id, path in images.items():
            wanted = records.missing(image_id)
            if wanted and image_id in checked.faults:
                failures.add(Failure(image_id, wanted, checked.faults[image_id]))
            elif wanted:
                tasks.append(Task(image_id, path, wanted))
        lacking = len(tasks)
        if options.sample is not None:
            tasks = spread(tasks, options.sample)
        pace = Pace()
        progress = _Progress(records, failures, labels, options.time_budget, console, pace)
        starting = time.monotonic() - began
        try:
            why = _compute(engine, tasks, progress)
        except FeatlinkError:
            with contextlib.suppress(FeatlinkError):  # what failed first is what the caller has to know
                finish(options.out, records, rows, truth, {**manifest, ENTRY: failures.entries()}, console)
            raise
        computed = time.monotonic()
        failed = failures.entries()
        finished = why == "complete" and not failed and options.sample is None
        manifest |= {"finished": manifests.now() if finished else None, ENTRY: failed}
        manifest["multiply_adds"] = _costs(options, records, truth, rows, engine.identity)
        found = finish(options.out, records, rows, truth, manifest, console)
        times = Times(starting, pace.first, [one / pace.at_once for one in pace.steady], time.monotonic() - computed)
        return SweepResult(found, why, failed, len(planned), times, len(images), lacking - len(pace.seconds))


def finish(
    out: Path, records: Records, rows: Sequence[Entry], truth: GroundTruth, manifest: dict[str, Any], console: Console
) -> list[results.Row]:
    """Evaluate a sweep's database and write everything but the database.

    Raises:
        CommandError: something cannot be written.
    """
    with console.status("evaluating"):
        clean = manifest["dataset"].get("truth") == "clean"
        found = write_figures(out, records, rows, truth, clean)
    manifests.write(out, {**manifest, "images": len(records.complete())})
    return found


def _costs(
    options: Options, records: Records, truth: GroundTruth, rows: Sequence[Entry], identity: Identity
) -> dict[str, Any] | None:
    """Multiply-adds of the images that are complete; None while none is, or where the weights are on the edge only."""
    done = records.complete()
    sizes = [(image.height, image.width) for image in truth.images if image.id in done]
    if not sizes:
        return None
    detections = sum(len(one.detections) for one in records.store.results(records.runs[0]) if one.image_id in done)
    try:
        padded = costs.padded_sizes(options.config, sizes)
        return costs.multiply_adds(options.config, padded, detections / len(done), rows, identity.weights)
    except FeatlinkError:
        return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other sweeps out of a folder, which is made if missing. The lock ends with the process.

    Raises:
        CommandError: another process has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise CommandError(f"cannot write {folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"another sweep is running in {folder}") from None
        yield


def _chosen(data: Dataset, options: Options) -> dict[int, Path]:
    first, step = options.shard
    images = dict(list(data.images.items())[: options.limit][first::step])
    if not images:
        raise CommandError(f"shard {first}/{step} has none of the images")
    return images


def _check(images: dict[int, Path], truth: GroundTruth, console: Console) -> Checked:
    checked = check_pictures(images, truth)
    if checked.faults:
        first = next(iter(checked.faults))
        console.print(
            f"{len(checked.faults)} of {len(images)} pictures cannot be evaluated and are left out, the first is "
            f"{images[first]}: {checked.faults[first]}",
            style="yellow",
        )
    if checked.turned:
        console.print(turned_notice(checked.turned), style="yellow")
    return checked


@dataclass(frozen=True)
class _Progress:
    """Where results go, and when to stop."""

    records: Records
    failures: Failures
    labels: Labels
    time_budget: float | None
    console: Console
    pace: Pace

    def store(self, one: Outcome | Failure) -> int:
        """Keep a result or a failure; of how many runs it is."""
        if isinstance(one, Failure):
            self.failures.add(one)
            self.pace.done(one.image_id, len(one.indices), failed=True)
            return len(one.indices)
        result = replace(one.result, detections=self.labels.apply(one.result.detections))
        self.records.add(Outcome(one.index, result))
        self.failures.mended(one.result.image_id, one.index)
        self.pace.done(one.result.image_id, 1)
        return 1


class _Left(ProgressColumn):
    """The time that is left, as the pace has it."""

    max_refresh = 0.5

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Bar) -> Text:
        """See the base class."""
        left = None if task.finished else self._pace.remaining
        return Text("" if left is None else f"{duration(left)} left", style="progress.remaining")


def _compute(engine: Engine, tasks: Sequence[Task], goal: _Progress) -> str:
    deadline = None if goal.time_budget is None else time.monotonic() + goal.time_budget
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Left(goal.pace),
    )
    outcomes = engine.run(goal.pace.watch(tasks))
    try:
        with Progress(*columns, console=goal.console) as progress:
            bar = progress.add_task("image × condition", total=sum(len(task.wanted) for task in tasks))
            for outcome in outcomes:
                progress.advance(bar, goal.store(outcome))
                if deadline is not None and time.monotonic() >= deadline and not progress.finished:
                    return "time budget"
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        outcomes.close()
    return "complete"
