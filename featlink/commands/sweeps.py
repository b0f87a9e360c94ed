"""``featlink bench``, ``demo``, ``estimate`` and ``merge``: sweeps, and what they show when they end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlink.dataset import Truth
from featlink.errors import CommandError
from featlink.options import (
    BitstreamsOption,
    DatasetOption,
    LimitOption,
    PicturesInOption,
    PicturesOption,
    takes_network,
)
from featlink.report.table import Column, Table, fidelity, kilobytes, number, say, show, with_interval
from featlink.results import Row, figures
from featlink.shared.evaluation.protocol import Figure
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.plan import EngineName, SweepOptions, read_seeds, read_shard, read_time

if TYPE_CHECKING:
    from featlink.sweeps.run import SweepResult

ConditionsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Names (paper, paper.table3, paper+equal), a .yaml or .json file, or a condition; repeatable.",
        show_default="paper",
    ),
]
SeedsOption = Annotated[str, typer.Option(help="Seeds of random distortions; the report has medians over them.")]
FidelityOption = Annotated[bool, typer.Option(help="Measure PSNR, SSIM and rank correlation.")]
TruthOption = Annotated[
    Truth,
    typer.Option(
        help="What counts as right: annotations; or clean, what the undistorted run detects, in any pictures."
    ),
]

INCOMPLETE = 3
"""Exit code of a sweep that could not compute all it was asked for."""
_INTERRUPTED = 130
"""Exit code, as shells have it for Ctrl-C."""


DEMO = tuple(
    condition.format(domain=domain)
    for domain in ("feature", "image")
    for condition in (
        "paper.table4.{domain}.bits4",
        "paper.table4.{domain}.bits2",
        "paper.table1.{domain}.sigma1.5-window21",
        "{domain}: gaussian_noise(sigma=25)",
        "paper.table3.{domain}.factor4",
        "paper.table5.{domain}.qp40",
        "{domain}: packet_loss(rate=0.05)",
        "{domain}: resize(factor=2) | gaussian_noise(sigma=10)",
    )
)
"""Conditions of the demo: one row of each kind of distortion, and a mix. The clean runs are in every sweep."""


@takes_network()
def bench(
    dataset: DatasetOption = Path("starter"),
    pictures: PicturesOption = None,
    conditions: ConditionsOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the results; give it again to continue.")] = Path("out/bench"),
    engine: Annotated[
        EngineName, typer.Option(help="What computes: this process, running services, or Ray workers.")
    ] = "local",
    *,
    config: ModelConfig,
    limit: LimitOption = None,
    shard: Annotated[
        str, typer.Option(help="i/n takes every n-th image or clip, from the i-th (0 to n - 1) on.")
    ] = "0/1",
    seeds: SeedsOption = "0,1,2",
    fidelity: FidelityOption = True,
    truth: TruthOption = "annotations",
    frames: Annotated[
        Path | None,
        typer.Option(
            help="Folder of frames that a device wrote (featlink-edge --out): its features cross the link.",
            show_default="the network's own",
        ),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(help="Stop after this time, e.g. 30m.", show_default="never")
    ] = None,
    edge: Annotated[
        str | None, typer.Option(help="http: URL of a running edge.", show_default="start the services here")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="ray: how many workers at most.", show_default="2 here; as many as a cluster has room for"
        ),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="ray: HOST:PORT of a cluster's head.", show_default="start one here")
    ] = None,
    worker_memory: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="ray: GB that a worker may hold; one that holds more is replaced.", show_default="no bound"
        ),
    ] = None,
) -> None:
    """Evaluate a data set under many conditions in both domains. Stop it at any time; the same command continues."""
    # Before torch loads OpenMP: its threads would spin at every barrier and take the cores from those that work ahead.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from rich.console import Console

    from featlink.sweeps.run import run_sweep

    options = SweepOptions(
        dataset=dataset,
        pictures=pictures,
        config=config,
        conditions=tuple(conditions or ["paper"]),
        out=out,
        seeds=read_seeds(seeds),
        fidelity=fidelity,
        engine=engine,
        limit=limit,
        shard=read_shard(shard),
        time_budget=None if time_budget is None else read_time(time_budget),
        truth=truth,
        frames=frames,
        edge=edge,
        workers=workers,
        ray_address=ray_address,
        worker_memory_gb=worker_memory or 0.0,
    )
    ended = run_sweep(options, Console(stderr=True))
    show_rows(ended.rows, out)
    end(ended)


@takes_network()
def demo(
    dataset: DatasetOption = Path("starter"),
    pictures: PicturesOption = None,
    *,
    config: ModelConfig,
    limit: LimitOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the results; give it again to continue.")] = Path("out/demo"),
    edge: Annotated[
        str | None, typer.Option(help="URL of a running edge.", show_default="start the services here")
    ] = None,
    keep_bitstreams: BitstreamsOption = None,
) -> None:
    """Evaluate a data set under a few conditions in both domains, through the services, and write a report.

    This is 'featlink bench --engine http' with conditions chosen. Stop it at any time; the same command continues.
    """
    from rich.console import Console

    from featlink.api.reporting import write_report
    from featlink.report.builder import headline
    from featlink.report.conditions import summary_table
    from featlink.report.sweep import open_sweep
    from featlink.sweeps.run import run_sweep

    if edge is not None and keep_bitstreams is not None:
        raise CommandError("--keep-bitstreams is for services that are started here, not for those behind --edge")
    options = SweepOptions(
        dataset=dataset,
        pictures=pictures,
        config=config,
        conditions=DEMO,
        out=out,
        engine="http",
        limit=limit,
        edge=edge,
        keep_bitstreams=keep_bitstreams,
    )
    console = Console(stderr=True)
    ended = run_sweep(options, console)
    if ended.rows:
        sweep = open_sweep(out)
        show(summary_table(sweep))
        typer.echo()
        say(headline(sweep))
    say_why(ended)
    if ended.rows:
        with console.status("making the report"):
            report = write_report(out)
        typer.echo(f"\nwritten: {out}/results.json, results.csv, detections/, services.log\nreport: {report}")
    if ended.failed:
        raise typer.Exit(INCOMPLETE)


@takes_network()
def estimate(
    dataset: DatasetOption = Path("starter"),
    conditions: ConditionsOption = None,
    pictures: Annotated[
        int,
        typer.Option(
            min=2, help="How many to compute, of videos how many clips, spread over the data set; the first warms up."
        ),
    ] = 6,
    workers: Annotated[
        list[int] | None, typer.Option(min=1, help="Workers to reckon with; repeatable.", show_default="2, 4, 8")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The sweep's folder: keep there what is computed, so that bench goes on from it."),
    ] = None,
    pictures_in: PicturesInOption = None,
    *,
    config: ModelConfig,
    limit: LimitOption = None,
    seeds: SeedsOption = "0,1,2",
    fidelity: FidelityOption = True,
    truth: TruthOption = "annotations",
) -> None:
    """Time a few pictures of a sweep and say how long the rest takes, here and on more workers, and how much disk."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as for bench, whose times these are to be
    from rich.console import Console

    from featlink.estimate import duration, sentences
    from featlink.estimate import estimate as reckon

    with tempfile.TemporaryDirectory(prefix="featlink-") as temporary:
        options = SweepOptions(
            dataset=dataset,
            pictures=pictures_in,
            config=config,
            conditions=tuple(conditions or ["paper"]),
            out=out or Path(temporary),
            seeds=read_seeds(seeds),
            fidelity=fidelity,
            limit=limit,
            sample=pictures,
            truth=truth,
        )
        result = reckon(options, out is not None, Console(stderr=True))
    rows = [
        ["here" if count == 1 else f"{count} workers like this one", likely, f"{low} to {high}"]
        for count in sorted({1, *(workers or (2, 4, 8))})
        for likely, low, high in [map(duration, result.seconds(count))]
    ]
    show(Table(f"{result.left} pictures", [Column("on", number=False), Column("time"), Column("range")], rows))
    typer.echo()
    for sentence in sentences(result):
        say(sentence)


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Output folders of sweeps that differ only in their images.")],
    out: Annotated[Path, typer.Option(help="Folder of the merged sweep.")],
) -> None:
    """Join the shards of a sweep and evaluate them together."""
    from rich.console import Console

    from featlink.sweeps.run import merge as merge_shards

    show_rows(merge_shards(shards, out, Console(stderr=True)), out)


def show_rows(rows: Sequence[Row], out: Path) -> None:
    """Print the rows and where their files are."""
    if not rows:
        typer.echo("no image is complete under all conditions yet")
        return
    show(rows_table(rows))
    typer.echo(f"\nwritten: {out}/results.json, results.csv, samples.npz, detections/, manifest.json")


def rows_table(rows: Sequence[Row]) -> Table:
    """One line per condition, by its id as in ``results.json``, with each group's first figure."""
    shown: dict[str, Figure] = {}
    for figure in figures():
        shown.setdefault(figure.group, figure)
    groups = [shown[group] for group in rows[0].scores if group in shown]
    lines = [
        [
            row.id,
            *(_cell(row, figure) for figure in groups),
            kilobytes(row),
            fidelity(row, "psnr_f", 1),
            fidelity(row, "psnr_i", 1),
        ]
        for row in rows
    ]
    images = f"{rows[0].images} image{'' if rows[0].images == 1 else 's'}"
    titles = [*(" ".join(reversed(figure.name.split("."))) for figure in groups), "kB/image", "PSNR [F]", "PSNR [I]"]
    return Table(images, [Column("condition", number=False), *map(Column, titles)], lines)


def _cell(row: Row, figure: Figure) -> str:
    value = row.scores.get(figure.group, {}).get(figure.name.partition(".")[2])
    text = number(None if value is None else figure.scale * value, 1)
    return with_interval(text, row.intervals.get(figure.group), figure.scale)


def end(sweep: SweepResult) -> None:
    """Say why a sweep ended early and what it could not compute, if so.

    Raises:
        typer.Exit: it was interrupted, or some of it failed.
    """
    say_why(sweep)
    if sweep.failed:
        raise typer.Exit(INCOMPLETE)


def say_why(sweep: SweepResult) -> None:
    """:func:`end`, but for the exit code where some of the sweep failed.

    Raises:
        typer.Exit: it was interrupted.
    """
    from featlink.sweeps.folder import failure_lines

    if sweep.failed:
        images = len({entry["image"] for entry in sweep.failed})
        typer.echo(
            f"\n{images} image{'' if images == 1 else 's'} could not be evaluated and left out of every row:", err=True
        )
        for line in failure_lines(sweep.failed, sweep.runs):
            typer.echo(f"  {line}", err=True)
        typer.echo("all are in manifest.json; once they are mended, the same command takes them up", err=True)
    if sweep.why != "complete":
        typer.echo(f"stopped: {sweep.why}; the same command continues")
    if sweep.why == "interrupted":
        raise typer.Exit(_INTERRUPTED)
