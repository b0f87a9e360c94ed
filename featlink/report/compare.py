"""Two sweeps side by side: the same conditions' accuracy, bits and fidelity."""

from __future__ import annotations

import numpy as np

from featlink.report.about import about
from featlink.report.condition_tables import FIDELITY, ap_cell
from featlink.report.page import Page, Section
from featlink.report.sweep import Sweep
from featlink.report.table import MISSING, Column, Table, number, percent, signed, with_interval
from featlink.results import Row
from featlink.shared.evaluation.confidence_intervals import Interval, interval


def compare_table(a: Sweep, b: Sweep) -> Table:
    """The conditions both sweeps have, B's figures less A's.

    Args:
        a: what is compared with.
        b: what is compared.
    """
    kinds = _kinds(a, b)
    columns = [Column("condition", number=False), Column("domain", number=False)]
    for kind in kinds:
        columns += [Column(title, f"AP {kind} %") for title in ("A", "B", "B − A")]
    columns += [Column(title, "bits") for title in ("A, kB", "B, kB", "B − A, %")]
    columns += [Column(title, "B − A") for _, title, _ in FIDELITY]
    rows = [_line(a, b, one, other, kinds) for one, other in _common(a, b)]
    missing = [
        f"only in {name}: {len(one.by_id.keys() - other.by_id.keys())} conditions"
        for name, one, other in (("A", a, b), ("B", b, a))
        if one.by_id.keys() - other.by_id.keys()
    ]
    return Table("The same conditions in two sweeps", columns, rows, missing)


def compare_summary(a: Sweep, b: Sweep) -> Table:
    """The comparison in a few columns, for a terminal."""
    titles = ("AP A", "AP B", "B − A", "bits %", "PSNR dB")
    columns = [Column("condition", number=False), Column("domain", number=False), *map(Column, titles)]
    kind, *_ = _kinds(a, b)
    rows = []
    for one, other in _common(a, b):
        psnr = "psnr_f" if one.domain == "feature" else "psnr_i"
        ap = [a.ap(one, kind), b.ap(other, kind)]
        cells = [a.names[one.id], one.domain, *map(percent, ap), signed(_less(ap[1], ap[0], 100), 2)]
        rows.append(
            [*cells, _more_bits(one, other), signed(_less(other.fidelity.get(psnr), one.fidelity.get(psnr)), 2)]
        )
    note = f"AP ({kind}) in %; B less A, bits in %, PSNR [F] of features, [I] of images"
    return Table("The same conditions in two sweeps", columns, rows, (note,))


def compare_page(a: Sweep, b: Sweep) -> Page:
    """A page with the comparison."""
    facts = [{"Folder": str(sweep.folder), **dict(about(sweep).facts)} for sweep in (a, b)]
    lines = [[what, *(one.get(what, MISSING) for one in facts)] for what in facts[0]]
    what = Table("What is compared", [Column(title, number=False) for title in ("", "A", "B")], lines)
    section = Section("compare", "By condition", "", [what, compare_table(a, b)])
    return Page("Two sweeps compared", sameness(a, b), [], [], [section])


def sameness(a: Sweep, b: Sweep) -> str:
    """How many conditions differ, in a sentence."""
    common = _common(a, b)
    same = sum(_figures(one) == _figures(other) for one, other in common)
    return f"{same} of {len(common)} common conditions have the same AP, bits and fidelity to the last digit."


def _kinds(a: Sweep, b: Sweep) -> list[str]:
    """The APs both have."""
    return [kind for kind in a.kinds if kind in b.kinds]


def _common(a: Sweep, b: Sweep) -> list[tuple[Row, Row]]:
    return [(row, b.by_id[row.id]) for row in a.rows if row.id in b.by_id]


def _figures(row: Row) -> tuple[object, ...]:
    return row.images, row.bbox, row.segm, row.bits_per_image, row.fidelity


def _line(a: Sweep, b: Sweep, one: Row, other: Row, kinds: list[str]) -> list[str]:
    cells = [a.names[one.id], one.domain]
    for kind in kinds:
        first, second = a.ap(one, kind), b.ap(other, kind)
        less = with_interval(signed(_less(second, first, 100), 2), _less_interval(a, b, one, other, kind))
        cells += [ap_cell(a, one, kind), ap_cell(b, other, kind), less]
    cells += [number(one.bits_per_image / 8000, 2), number(other.bits_per_image / 8000, 2), _more_bits(one, other)]
    for name, _, digits in FIDELITY:
        cells.append(signed(_less(other.fidelity.get(name), one.fidelity.get(name)), digits))
    return cells


def _less(one: float | None, other: float | None, unit: float = 1) -> float | None:
    return None if one is None or other is None else unit * (one - other)


def _less_interval(a: Sweep, b: Sweep, one: Row, other: Row, kind: str) -> Interval | None:
    """Paired, where both sweeps are of the same images."""
    if a.samples is None or b.samples is None or not np.array_equal(a.samples.images, b.samples.images):
        return None
    first, second = a.draws(one, kind), b.draws(other, kind)
    paired = first is not None and second is not None and np.array_equal(a.samples.draws, b.samples.draws)
    return interval(second - first) if paired else None  # type: ignore[operator]  # both are there


def _more_bits(one: Row, other: Row) -> str:
    return signed(100 * (other.bits_per_image / one.bits_per_image - 1))
