"""What ``bench`` and ``merge`` show of a sweep when they end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from featlink.report.table import Column, Table, fidelity, kilobytes, percent, with_interval
from featlink.report.terminal import show
from featlink.results import Row
from featlink.sweeps.run import SweepResult

_INTERRUPTED = 130
"""Exit code, as shells have it for Ctrl-C."""


def show_rows(rows: Sequence[Row], out: Path) -> None:
    """Print the rows and where their files are."""
    if not rows:
        typer.echo("no image is complete under all conditions yet")
        return
    show(rows_table(rows))
    typer.echo(f"\nwritten: {out}/results.json, results.csv, samples.npz, detections/, manifest.json")


def rows_table(rows: Sequence[Row]) -> Table:
    """One line per condition, by its id as in ``results.json``."""
    titles = ("AP bbox", "AP segm", "kB/image", "PSNR [F]", "PSNR [I]")
    lines = [
        [
            row.id,
            with_interval(percent(row.bbox["AP"]), row.intervals.get("bbox")),
            with_interval(percent((row.segm or {}).get("AP")), row.intervals.get("segm")),
            kilobytes(row),
            fidelity(row, "psnr_f", 1),
            fidelity(row, "psnr_i", 1),
        ]
        for row in rows
    ]
    images = f"{rows[0].images} image{'' if rows[0].images == 1 else 's'}"
    return Table(images, [Column("condition", number=False), *map(Column, titles)], lines)


def end(sweep: SweepResult) -> None:
    """Say why a sweep ended early, if it did.

    Raises:
        typer.Exit: it was interrupted.
    """
    if sweep.why != "complete":
        typer.echo(f"stopped: {sweep.why}; the same command continues")
    if sweep.why == "interrupted":
        raise typer.Exit(_INTERRUPTED)
