"""``featlink report``: what a sweep's results say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError
from featlink.files import replace


def report(
    folders: Annotated[list[Path], typer.Argument(help="A sweep's output folder; two with --compare.")],
    compare: Annotated[bool, typer.Option("--compare", help="Compare two sweeps: RUN_A RUN_B.")] = False,
    out: Annotated[Path | None, typer.Option(help="HTML file; default: report.html (compare.html) there.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables here, too, in Markdown.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="The pictures' folder, if it has moved.")] = None,
    images: Annotated[int, typer.Option(min=0, help="Images in the gallery.")] = 3,
    planes: Annotated[bool, typer.Option(help="Show what crossed the link; takes the model and some time.")] = True,
) -> None:
    """Make one self-contained HTML file of a sweep's results, and show the main table."""
    from rich.console import Console

    from featlink.report.compare import compare_page, compare_summary
    from featlink.report.condition_tables import summary_table
    from featlink.report.html import render
    from featlink.report.make import ReportOptions, make_page
    from featlink.report.page import to_markdown
    from featlink.report.sweep import open_sweep
    from featlink.report.table import terminal

    if len(folders) != (2 if compare else 1):
        raise CommandError("give one folder, or two with --compare")
    console = Console()
    sweeps = [open_sweep(folder) for folder in folders]
    if compare:
        table, page = compare_summary(*sweeps), compare_page(*sweeps)
    else:
        table = summary_table(sweeps[0])
        with console.status("making pictures"):
            page = make_page(sweeps[0], ReportOptions(dataset, images, planes))
    target = out or folders[-1] / ("compare.html" if compare else "report.html")
    replace(target, render(page).encode())
    if markdown is not None:
        replace(markdown, to_markdown(page).encode())
    console.print(terminal(table))
    for line in (page.statement, *page.findings):
        console.print(line, highlight=False, markup=False)
    console.print(f"written: {target}" + (f", {markdown}" if markdown else ""), highlight=False, markup=False)
