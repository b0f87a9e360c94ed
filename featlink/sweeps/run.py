"""Run a sweep: compute missing results, store them as they come, and evaluate at the end, also if interrupted.

It goes clip by clip; a still is a clip of one. A clip of which a frame lacks a result is computed again.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from featlink import costs, results
from featlink.dataset import MAX_PIXELS, Checked, check_pictures, ground_truth, open_dataset, turned_notice
from featlink.errors import CommandError
from featlink.results import DATABASE, load_manifest
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FeatlinkError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.categories import Labels, match
from featlink.shared.evaluation.coco import Clip, GroundTruth
from featlink.shared.models.config import MODELS
from featlink.shared.store import open_finished
from featlink.sweeps import folder as folders
from featlink.sweeps.engine import Engine, Frame, ItemError, ItemResult, ModelInfo, WorkItem
from featlink.sweeps.figures import write_figures
from featlink.sweeps.folder import FAILED, Failures, Records, locked
from featlink.sweeps.plan import SweepOptions, make_plan

if TYPE_CHECKING:
    from featlink.sweeps.stages import Recorded

T = TypeVar("T")
Why = Literal["complete", "time budget", "interrupted"]
OpenEngine = Callable[[SweepOptions, Sequence[Condition]], contextlib.AbstractContextManager[Engine]]
_SPEED_S = 1800
"""Seconds over which the progress bar averages: conditions differ in cost, so it takes several pictures."""

_NOTEBOOK_LINES = 50
"""How often a notebook's bar is drawn."""


@contextlib.contextmanager
def open_engine(options: SweepOptions, conditions: Sequence[Condition]) -> Iterator[Engine]:
    """Start the engine of a sweep, and stop it at the end.

    Args:
        options: of the sweep.
        conditions: of the runs, by index.

    Raises:
        FeatlinkError: it cannot be started.
    """
    if options.frames is not None and options.engine != "local":
        raise CommandError(f"--frames is for the engine local, not {options.engine}")
    if options.engine == "http":
        from featlink.client import Client
        from featlink.sweeps.http import HttpEngine

        with _edge(options) as edge, Client(edge, edge) as client:
            yield HttpEngine(client, conditions, options.fidelity)
    elif options.engine == "ray":
        from featlink.sweeps.cluster import Cluster, RayEngine

        cluster = Cluster(
            options.ray_workers, options.ray_address, memory_per_worker=int(options.worker_memory_gb * 1e9)
        )
        with RayEngine(options.config, conditions, options.fidelity, cluster) as engine:
            yield engine
    else:
        from featlink.sweeps.local import build_local

        yield build_local(options.config, conditions, options.fidelity, recorded=_recorded(options))


def _recorded(options: SweepOptions) -> Recorded | None:
    """What a device made of the data set's pictures, where its folder is given."""
    if options.frames is None:
        return None
    from featlink.exported_check import recorded_frames

    files = open_dataset(options.dataset, options.truth, options.pictures).images
    frame = recorded_frames(options.frames)
    return lambda image_id, data, own: frame(files[image_id], data, own)


@contextlib.contextmanager
def _edge(options: SweepOptions) -> Iterator[str]:
    """The URL of the edge given, or of one that is started here."""
    from featlink.launcher import Stack, free_ports, service_settings

    if options.edge is not None:
        yield options.edge
        return
    ports = free_ports()
    with (
        tempfile.TemporaryDirectory(prefix="featlink-") as folder,  # the sweep keeps its runs itself
        (options.out / "services.log").open("w") as log,
        Stack(
            ports,
            service_settings(options.config, Path(folder) / "runs.sqlite", options.keep_bitstreams),
            lambda name, line: print(name, line, file=log),
        ) as stack,
    ):
        stack.wait_ready()
        yield ports.edge_url


@dataclass(frozen=True)
class Times:
    """What a call of a sweep took, in seconds.

    Attributes:
        starting: before the first picture: data set checked, model loaded.
        pictures: from one complete picture to the next, the first from the start; pictures that fail are left out.
        evaluating: after the last picture.
    """

    starting: float = 0.0
    pictures: Sequence[float] = ()
    evaluating: float = 0.0


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        rows: one per condition; none if no image is complete yet.
        why: what ended it.
        failed: what could not be computed, as in the manifest.
        runs: how many runs there are: conditions × seeds.
        times: what this call took.
        planned: how many images the sweep has.
        left: how many of them still lack results.
    """

    rows: list[results.Row]
    why: Why
    failed: list[dict[str, Any]] = field(default_factory=list)
    runs: int = 0
    times: Times = field(default_factory=Times)
    planned: int = 0
    left: int = 0


def run_sweep(options: SweepOptions, console: Console, open_engine: OpenEngine = open_engine) -> SweepResult:
    """Compute what a sweep lacks, and write its results.

    Args:
        options: the sweep.
        console: shows the progress.
        open_engine: gives what computes, from the options and the runs' conditions.

    Raises:
        FeatlinkError: it cannot begin or continue; what is stored is kept and evaluated.
    """
    began = time.monotonic()
    data = open_dataset(options.dataset, options.truth, options.pictures)
    truth, repairs = ground_truth(data, options.truth)
    if data.notice:
        console.print(data.notice, style="yellow")
    if repairs and data.annotations is not None:
        console.print(f"{data.annotations.name} was mended: {repairs}", style="yellow")
    plan = make_plan(options.conditions, options.seeds)
    clips = _chosen(truth, options)
    images = {id: data.images[id] for clip in clips for id in clip.ids}
    with locked(options.out), contextlib.ExitStack() as stack:
        results.refuse_without_evaluators(options.out)
        with _status(console, "starting"):
            checked = _check(images, truth, console)
            engine = stack.enter_context(open_engine(options, [run.condition for run in plan]))
        labels = match(truth.categories, engine.identity.categories)
        if notice := labels.missed(truth):
            console.print(notice, style="yellow")
        manifest = folders.describe(data, truth, options, engine.identity, plan)
        manifest["dataset"] |= {"repairs": repairs, "categories": notice or ""}
        manifest = folders.continued(options.out, manifest)
        records = stack.enter_context(Records(options.out, data.name, truth, engine.identity, plan))
        folders.save_pictures(options.out, checked.digests, records.evaluated())
        folders.write(options.out, manifest)
        failures = Failures([run.name for run in plan], data.images)
        failures.recall(manifest)
        items = []
        for clip in clips:
            missing = tuple(sorted({run for id in clip.ids for run in records.missing(id)}))
            faults = [
                ItemError(one.id, missing, checked.faults[one.id]) for one in clip.images if one.id in checked.faults
            ]
            if missing and faults:
                known = {fault.image_id: fault for fault in faults}
                for id in clip.ids:
                    failures.add(known.get(id, ItemError(id, missing, faults[0].of_clip)))
            elif missing:
                frames = tuple(Frame(id, images[id]) for id in clip.ids)
                items.append(WorkItem(frames, missing, clip.name))
        lacking = sum(len(item.frames) for item in items)
        if options.sample is not None:
            items = spread(items, options.sample)
        collector = _Collector(records, failures, labels)
        starting = time.monotonic() - began
        try:
            why = _compute(engine, items, collector, options.time_budget, console)
        except FeatlinkError:
            with contextlib.suppress(FeatlinkError):  # what failed first is what the caller has to know
                finish(options.out, records, truth, {**manifest, FAILED: failures.entries()}, console)
            raise
        computed = time.monotonic()
        failed = failures.entries()
        finished = why == "complete" and not failed and options.sample is None
        manifest |= {"finished": folders.now() if finished else None, FAILED: failed}
        manifest["multiply_adds"] = _costs(options, records, truth, engine.identity, data.images)
        rows = finish(options.out, records, truth, manifest, console)
        times = Times(starting, collector.seconds, time.monotonic() - computed)
        return SweepResult(rows, why, failed, len(plan), times, len(images), lacking - len(collector.seconds))


def finish(
    out: Path, records: Records, truth: GroundTruth, manifest: dict[str, Any], console: Console
) -> list[results.Row]:
    """Evaluate a sweep's database and write everything but the database.

    Raises:
        StorageError: something cannot be written.
    """
    with _status(console, "evaluating"):
        rows = write_figures(out, records, truth, manifest["dataset"].get("truth") == "clean")
    folders.write(out, {**manifest, "images": len(records.complete())})
    return rows


def merge(shards: Sequence[Path], out: Path, console: Console) -> list[results.Row]:
    """Copy shards' results into a new folder and evaluate them together.

    Args:
        shards: output folders of sweeps that differ in their images only.
        out: the merged sweep's folder.
        console: shows what is going on.

    Raises:
        CommandError: a folder holds no sweep, or another one than the first, or figures that nothing here computes; or
            none holds results.
    """
    manifests = [load_manifest(folder) for folder in shards]
    for folder in shards:
        results.refuse_without_evaluators(folder)
    for other in manifests:
        folders.refuse_other(manifests[0], other, str(shards[0]))
    manifest = {**manifests[0], "engine": {"name": "merge", "shards": [str(folder) for folder in shards]}}
    plan = folders.plan_of(manifest)
    identity = ModelInfo(manifest["model"]["name"], manifest["model"]["identity"])
    with contextlib.ExitStack() as stack:
        stores = [open_finished(folder / DATABASE) for folder in shards]
        for store in stores:
            stack.callback(store.close)
        begun = [(store, runs) for store in stores if (runs := folders.runs_by_name(store))]
        if not begun:
            raise CommandError("the shards hold no results yet")
        first, [run, *_] = begun[0][0], begun[0][1].values()
        dataset = first.run(run).dataset
        truth = first.ground_truth(dataset)
        stack.enter_context(locked(out))
        manifest = folders.begin(out, manifest)
        records = stack.enter_context(Records(out, dataset, truth, identity, plan))
        for folder in shards:
            folders.save_pictures(out, folders.load_pictures(folder), records.evaluated())
        for store, runs in begun:
            for index, planned in enumerate(plan):
                if planned.name in runs:
                    records.copy(index, store.results(runs[planned.name]))
        finished = folders.now() if all(one["finished"] for one in manifests) else None
        failed = [entry for one in manifests for entry in one.get(FAILED, [])]
        return finish(out, records, truth, {**manifest, "finished": finished, FAILED: failed}, console)


def spread(things: Sequence[T], count: int) -> list[T]:
    """Choose so many things, evenly from first to last, each from the middle of its part.

    Example:
        >>> spread("abcdefghi", 3)
        ['b', 'e', 'h']
    """
    count = min(count, len(things))
    return [things[(2 * i + 1) * len(things) // (2 * count)] for i in range(count)]


def _costs(
    options: SweepOptions, records: Records, truth: GroundTruth, identity: ModelInfo, images: Mapping[int, Path]
) -> dict[str, Any] | None:
    """Multiply-adds of the images that are complete; None while none is, or where the weights are on the edge only."""
    done = records.complete()
    sizes = [(image.height, image.width) for image in truth.images if image.id in done]
    if not sizes:
        return None
    clean = records.store.results(records.runs[0])
    detections = sum(len(result.detections) for result in clean if result.image_id in done)
    try:
        if options.config.model not in MODELS:
            from featlink.shared.pictures import decode  # loads OpenCV

            return costs.of_picture(options.config, decode(images[min(done)].read_bytes(), MAX_PIXELS), records.plan)
        padded = costs.padded_sizes(options.config, sizes)
        return costs.multiply_adds(options.config, padded, detections / len(done), records.plan, identity.weights)
    except Exception:  # of a model that may be anyone's, or whose weights are on the edge only
        return None


def _is_cell(console: Console) -> bool:
    """Whether it is a notebook's cell, which keeps all that is drawn over."""
    return console.is_terminal and not console.file.isatty()


def _status(console: Console, text: str) -> contextlib.AbstractContextManager[object]:
    """A text that turns while something goes on; a line in a notebook's cell."""
    if not _is_cell(console):
        return console.status(text)
    console.print(text)
    return contextlib.nullcontext()


def _chosen(truth: GroundTruth, options: SweepOptions) -> list[Clip]:
    first, step = options.shard
    clips = coco.clips(truth)[: options.limit][first::step]
    if not clips:
        raise CommandError(f"shard {first}/{step} has none of the images")
    return clips


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


class _Collector:
    """Where results go, and how long each picture took."""

    def __init__(self, records: Records, failures: Failures, labels: Labels) -> None:
        self._records = records
        self._failures = failures
        self._labels = labels
        self._missing: dict[int, int] = {}
        self._last = 0.0
        self.seconds: list[float] = []

    def start(self, items: Sequence[WorkItem]) -> None:
        """Note what is to come, from now on."""
        self._missing = {frame.image_id: len(item.runs) for item in items for frame in item.frames}
        self._last = time.monotonic()

    def add(self, computed: ItemResult | ItemError) -> int:
        """Store a result or a failure; returns of how many runs it is."""
        if isinstance(computed, ItemError):
            self._failures.add(computed)
            self._missing.pop(computed.image_id, None)
            return len(computed.runs)
        image_id = computed.result.image_id
        detections = self._labels.apply(computed.result.detections)
        self._records.add(replace(computed, result=replace(computed.result, detections=detections)))
        self._failures.mended(image_id, computed.run)
        if image_id in self._missing:
            self._missing[image_id] -= 1
            if self._missing[image_id] == 0:
                now = time.monotonic()
                self.seconds.append(now - self._last)
                self._last = now
        return 1


def _compute(
    engine: Engine, items: Sequence[WorkItem], collector: _Collector, time_budget: float | None, console: Console
) -> Why:
    deadline = None if time_budget is None else time.monotonic() + time_budget
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    collector.start(items)
    computed = engine.run(iter(items))
    kept = _is_cell(console)
    total, shown = sum(len(item.frames) * len(item.runs) for item in items), 0.0
    try:
        with Progress(*columns, console=console, speed_estimate_period=_SPEED_S, auto_refresh=not kept) as progress:
            bar = progress.add_task("image × condition", total=total)
            for one in computed:
                progress.advance(bar, collector.add(one))
                if kept and progress.tasks[0].completed - shown >= total / _NOTEBOOK_LINES:
                    shown = progress.tasks[0].completed
                    progress.refresh()
                if deadline is not None and time.monotonic() >= deadline and not progress.finished:
                    return "time budget"
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        computed.close()
    return "complete"
