"""Write reports: of a sweep, of two that are compared, of several split points, or of a live stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from featlink.errors import CommandError
from featlink.shared.files import replace

if TYPE_CHECKING:
    from featlink.report.builder import ReportOptions
    from featlink.report.html import Page
    from featlink.report.table import Table


class Report(NamedTuple):
    """A page, its main table, and what its file is called in the last of the folders."""

    page: Page
    table: Table
    name: str


def make_report(folders: Sequence[Path], compare: bool, options: ReportOptions) -> Report:
    """Make the report of some folders.

    Args:
        folders: output of a sweep or of a live stream, of two sweeps, or of several at split points of one network.
        compare: two sweeps, the second against the first.
        options: which pictures a sweep's own report gets.

    Raises:
        FeatlinkError: a folder has no finished sweep, or they do not go together.
    """
    from featlink.report.builder import make_page
    from featlink.report.conditions import compare_page, compare_summary, summary_table
    from featlink.report.live import stream_page
    from featlink.report.splits import conditions_table, in_order, splits_page
    from featlink.report.sweep import open_sweep
    from featlink.stream_records import ABOUT

    if compare and len(folders) != 2:
        raise CommandError("--compare takes two folders")
    if len(folders) == 1 and (folders[0] / ABOUT).is_file():
        return Report(*stream_page(folders[0]), "report.html")
    sweeps = [open_sweep(folder) for folder in folders]
    if compare:
        return Report(compare_page(*sweeps), compare_summary(*sweeps), "compare.html")
    if len(sweeps) > 1:
        sweeps = in_order(sweeps)
        return Report(splits_page(sweeps), conditions_table(sweeps), "splits.html")
    return Report(make_page(sweeps[0], options), summary_table(sweeps[0]), "report.html")


def write_report(
    *folders: str | Path,
    compare: bool = False,
    out: str | Path | None = None,
    dataset: str | Path | None = None,
    images: int = 3,
    planes: bool = True,
) -> Path:
    """Write a report as one self-contained HTML file, as ``featlink report`` does.

    Args:
        *folders: output of a sweep or of a live stream; two with ``compare``, or several at split points of a network.
        compare: two sweeps, the second against the first.
        out: the file; default: ``report.html``, ``compare.html`` or ``splits.html`` in the last folder.
        dataset: the data set, if its folder has moved.
        images: how many the gallery shows.
        planes: show what crossed the link, which loads the model.

    Returns:
        The file.

    Raises:
        FeatlinkError: a folder has no finished sweep, or they do not go together.
    """
    from featlink.report.builder import ReportOptions
    from featlink.report.html import render

    paths = [Path(folder) for folder in folders]
    options = ReportOptions(None if dataset is None else Path(dataset), images, planes)
    report = make_report(paths, compare, options)
    target = paths[-1] / report.name if out is None else Path(out)
    replace(target, render(report.page).encode())
    return target
