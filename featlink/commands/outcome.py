"""What ``bench`` and ``merge`` show of a sweep when they end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from featlink.report.table import Column, Table, fidelity, kilobytes, percent, show, with_interval
from featlink.results import Row, all_leading_groups
from featlink.sweeps.folder import failure_lines
from featlink.sweeps.run import SweepResult

INCOMPLETE = 3
"""Exit code of a sweep that could not compute all it was asked for."""
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
    groups = all_leading_groups()[::-1]
    titles = (*(f"AP {group}" for group in groups), "kB/image", "PSNR [F]", "PSNR [I]")
    lines = [
        [
            row.id,
            *(with_interval(percent(row.scores.get(one, {}).get("AP")), row.intervals.get(one)) for one in groups),
            kilobytes(row),
            fidelity(row, "psnr_f", 1),
            fidelity(row, "psnr_i", 1),
        ]
        for row in rows
    ]
    images = f"{rows[0].images} image{'' if rows[0].images == 1 else 's'}"
    return Table(images, [Column("condition", number=False), *map(Column, titles)], lines)


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
