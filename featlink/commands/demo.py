"""``featlink demo``: a sweep of a few conditions over the services, which ends with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError
from featlink.model_options import (
    BitstreamsOption,
    DatasetOption,
    DeviceOption,
    LimitOption,
    ModelOption,
    PicturesOption,
    ProfileOption,
    SizeOption,
    ThreadsOption,
    WeightsOption,
    network_config,
)


def demo(
    dataset: DatasetOption = Path("starter"),
    pictures: PicturesOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
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

    from featlink.commands.outcome import INCOMPLETE, end, say_why
    from featlink.dataset import open_dataset
    from featlink.demo import CONDITIONS, write_overlays, write_report
    from featlink.report.conditions import summary_table
    from featlink.report.sweep import open_sweep
    from featlink.report.table import show
    from featlink.sweeps.plan import SweepOptions
    from featlink.sweeps.run import run_sweep

    if edge is not None and keep_bitstreams is not None:
        raise CommandError("--keep-bitstreams is for services that are started here, not for those behind --edge")
    options = SweepOptions(
        dataset=dataset,
        pictures=pictures,
        config=network_config(
            model=model,
            weights=weights,
            profile=profile,
            min_size=min_size,
            max_size=max_size,
            threads=threads,
            device=device,
        ),
        conditions=CONDITIONS,
        out=out,
        engine="http",
        limit=limit,
        edge=edge,
        keep_bitstreams=keep_bitstreams,
    )
    console = Console(stderr=True)
    ended = run_sweep(options, console)
    if ended.rows:
        show(summary_table(open_sweep(out)))
    say_why(ended)
    if not ended.rows:
        end(ended)
        return
    with console.status("drawing the report"):
        overlays = write_overlays(out, open_dataset(dataset, pictures=pictures), ended.rows)
        report = write_report(out)
    typer.echo(f"\nwritten: {out}/results.json, results.csv, detections/, {overlays.name}/, services.log")
    typer.echo(f"report: {report}")
    if ended.failed:
        raise typer.Exit(INCOMPLETE)
