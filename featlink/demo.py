"""The demo: a sweep of a few conditions over the services, with pictures of what was detected, and a report."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from featlink.dataset import MAX_PIXELS, Dataset
from featlink.report.builder import ReportOptions, make_page
from featlink.report.html import render
from featlink.report.sweep import open_sweep
from featlink.results import DATABASE, Row
from featlink.shared.files import replace
from featlink.shared.models.overlay import draw
from featlink.shared.pictures import decode
from featlink.shared.store import Store, sqlite_url
from featlink.sweeps.figures import file_names

CONDITIONS = tuple(
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
"""One row of each kind of distortion, and a mix. The clean runs are in every sweep."""


def write_overlays(folder: Path, data: Dataset, rows: Sequence[Row]) -> Path:
    """Draw what was detected in the first picture with results, one PNG per condition.

    Args:
        folder: of a complete sweep.
        data: its data set.
        rows: its conditions, with results.

    Returns:
        The folder of the PNGs, named as the files in ``detections/``.

    Raises:
        CommandError: one cannot be written.
    """
    words = data.categories()
    target = folder / "overlays"
    names = file_names([row.id for row in rows])
    with contextlib.closing(Store(sqlite_url((folder / DATABASE).resolve()))) as store:
        done = set.intersection(*(store.done(seed.run) for row in rows for seed in row.seeds))
        first = next(image_id for image_id in data.images if image_id in done)
        picture = decode(data.images[first].read_bytes(), MAX_PIXELS)
        for row in rows:
            found = store.result(row.seeds[0].run, first)
            replace(target / f"{names[row.id]}.png", draw(picture, found.detections, words))
    return target


def write_report(folder: Path) -> Path:
    """Write a sweep's ``report.html`` into its folder and return its path.

    Raises:
        CommandError: it cannot be written.
    """
    page = make_page(open_sweep(folder), ReportOptions())
    target = folder / "report.html"
    replace(target, render(page).encode())
    return target
