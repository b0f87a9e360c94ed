"""``featlink report``: write a sweep's report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError
from featlink.files import replace


def report(
    folders: Annotated[list[Path], typer.Argument(help="A sweep's output folder; two with --compare.")],
    compare: Annotated[bool, typer.Option("--compare", help="Compare two sweeps: RUN_A RUN_B.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="HTML file.", show_default="report.html or compare.html there")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables to this file, too, in Markdown.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="The data set, if its folder has moved.")] = None,
    images: Annotated[int, typer.Option(min=0, help="How many images the gallery shows.")] = 3,
    planes: Annotated[bool, typer.Option(help="Show what crossed the link. This loads the model.")] = True,
) -> None:
    """Write a sweep's report as one HTML file that loads nothing, and show the main table."""
    from rich.console import Console

    from featlink.report.compare import compare_page, compare_summary
    from featlink.report.condition_tables import summary_table
    from featlink.report.html import render
    from featlink.report.make import ReportOptions, make_page
    from featlink.report.page import to_markdown
    from featlink.report.sweep import open_sweep
    from featlink.report.terminal import say, show

    if len(folders) != (2 if compare else 1):
        raise CommandError("give one folder, or two with --compare")
    sweeps = [open_sweep(folder) for folder in folders]
    if compare:
        table, page = compare_summary(*sweeps), compare_page(*sweeps)
    else:
        table = summary_table(sweeps[0])
        with Console(stderr=True).status("making pictures"):
            page = make_page(sweeps[0], ReportOptions(dataset, images, planes))
    target = out or folders[-1] / ("compare.html" if compare else "report.html")
    replace(target, render(page).encode())
    if markdown is not None:
        replace(markdown, to_markdown(page).encode())
    show(table)
    typer.echo()
    for line in (page.statement, *page.findings):
        say(line)
    typer.echo(f"\nwritten: {target}" + (f", {markdown}" if markdown else ""))
