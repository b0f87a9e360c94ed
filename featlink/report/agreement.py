"""How well retentions agree with the paper's: rank order and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from featlink.paper import TABLES, paper_rows
from featlink.report.sweep import Sweep
from featlink.report.table import Column, Table, number, percent
from featlink.shared.metrics.rank_correlation import spearman

_LEAST = 3  # the rank correlation of two points is ±1 whatever they are


@dataclass(frozen=True)
class Agreement:
    """Agreement with the paper over some rows.

    Attributes:
        rows: how many both sides have.
        spearman: rank correlation of retention in [-1, 1]; None for fewer than 3 rows, or where a side is constant.
        error: mean absolute difference of retention; None without rows.
    """

    rows: int
    spearman: float | None
    error: float | None


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> Agreement:
    """Compare retentions.

    Args:
        ours: retention by row.
        theirs: the paper's, same order.

    Example:
        >>> agreement([1.0, 0.9, 0.2], [0.9, 0.8, 0.4])
        Agreement(rows=3, spearman=1.0, error=0.13333333333333333)
    """
    if not ours:
        return Agreement(0, None, None)
    error = fmean(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    defined = len(ours) >= _LEAST and len(set(ours)) > 1 and len(set(theirs)) > 1
    return Agreement(len(ours), spearman(np.array(theirs), np.array(ours)) if defined else None, error)


def by_table(sweep: Sweep, kind: str) -> dict[str, Agreement]:
    """Agreement of each of the paper's tables, and of all of them as ``overall``.

    Args:
        sweep: ours.
        kind: ``segm`` or ``bbox``: whose retention.
    """
    pairs: dict[str, list[tuple[float, float]]] = {table: [] for table in TABLES}
    for name, paper in paper_rows().items():
        row = sweep.by_id.get(name)
        retention = None if row is None else sweep.retention(row, kind)
        if retention is not None:
            pairs[name.split(".")[1]].append((retention, paper.retention))
    groups = {**pairs, "overall": [pair for group in pairs.values() for pair in group]}
    return {name: agreement([a for a, _ in group], [b for _, b in group]) for name, group in groups.items()}


def agreement_table(sweep: Sweep) -> Table:
    """Agreement by table of the paper, for each kind of AP."""
    found = {kind: by_table(sweep, kind) for kind in sweep.kinds}
    columns = [Column("table", number=False), Column("rows")]
    for kind in sweep.kinds:
        columns += [Column("Spearman ρ", kind), Column("mean |Δ|, points", kind)]
    titles = {key: f"{key[-1]} {title}" for key, title in TABLES.items()} | {"overall": "overall"}
    rows = []
    for key, title in titles.items():
        cells = [title, str(found[sweep.kind][key].rows)]
        for kind in sweep.kinds:
            one = found[kind][key]
            cells.append(number(one.spearman, 2))
            cells.append(percent(one.error))
        rows.append(cells)
    return Table(
        "Retention, ours against the paper's: rank correlation, and mean absolute difference in percentage points",
        columns,
        rows,
    )
