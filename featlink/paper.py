"""The paper's own numbers: Tables 1–5 of JBE Vol. 26, No. 7, December 2021, by the names of its conditions."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

CLEAN_MAP = 40.3
"""The paper's mAP without distortion, in percent: what its rows' retention is relative to."""

TABLES = {
    "table1": "Gaussian blur",
    "table2": "Gaussian noise",
    "table3": "Resizing",
    "table4": "Quantisation",
    "table5": "VVenC coding",
}
"""The tables' subjects, by the part of a row's name."""


@dataclass(frozen=True)
class PaperRow:
    """One row of the paper's tables.

    Attributes:
        id: its name in :data:`featlink.shared.conditions.names.NAMED`.
        fidelity: ``psnr_f``, ``psnr_i`` in dB and ``ssim_f``, ``ssim_i``; [I] only in the image domain.
        map: mAP in percent.
    """

    id: str
    fidelity: dict[str, float]
    map: float

    @property
    def retention(self) -> float:
        """mAP over the paper's undistorted mAP."""
        return self.map / CLEAN_MAP


@cache
def paper_rows() -> dict[str, PaperRow]:
    """All 33 rows by name, in the paper's order.

    Example:
        >>> row = paper_rows()["paper.table5.image.qp47"]
        >>> row.map, round(row.retention, 3), row.fidelity["psnr_i"]
        (8.6, 0.213, 23.35)
    """
    lines = csv.DictReader((files("featlink") / "paper_tables.csv").read_text(encoding="utf-8").splitlines())
    return {line["id"]: _row(**line) for line in lines}


def _row(id: str, map: str, **fidelity: str) -> PaperRow:
    return PaperRow(id, {name: float(value) for name, value in fidelity.items() if value}, float(map))
