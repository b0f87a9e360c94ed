"""``featlink report``: write the report of a sweep, or of a live stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.api.reporting import make_report
from featlink.errors import CommandError
from featlink.shared.files import replace


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Output folder of a sweep or stream; two with --compare, or several of split points."),
    ],
    compare: Annotated[bool, typer.Option("--compare", help="Compare two sweeps: RUN_A RUN_B.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="HTML file.", show_default="report.html, compare.html or splits.html there")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables to this file, too, in Markdown.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="The data set, if its folder has moved.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of its pictures, if that has moved.")] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Others' curve: a CSV file with columns bpp and AP; repeatable."),
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(help="Write bpp, AP, encode and decode time of every point to this CSV file.")
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="How many images the gallery shows.")] = 3,
    planes: Annotated[bool, typer.Option(help="Show what crossed the link. This loads the model.")] = True,
) -> None:
    """Write a sweep's or a stream's report as one self-contained HTML file, and show the main table."""
    from rich.console import Console

    from featlink.report.builder import ReportOptions
    from featlink.report.coding import external_curves, rate_csv
    from featlink.report.html import render, to_markdown
    from featlink.report.sweep import open_sweep
    from featlink.report.table import say, show

    others = external_curves(curve or [])
    if len(folders) > 1 and (others or rates):
        raise CommandError("--curve and --rates are for one sweep")
    with Console(stderr=True).status("making pictures"):
        page, table, name = make_report(folders, compare, ReportOptions(dataset, images, planes, others, pictures))
    target = out or folders[-1] / name
    replace(target, render(page).encode())
    if markdown is not None:
        replace(markdown, to_markdown(page).encode())
    if rates is not None:
        replace(rates, rate_csv(open_sweep(folders[0])).encode())
    show(table)
    typer.echo()
    for line in filter(None, (page.headline, page.statement, *page.findings)):
        say(line)
    written = [target, *(path for path in (markdown, rates) if path is not None)]
    typer.echo(f"\nwritten: {', '.join(map(str, written))}")
