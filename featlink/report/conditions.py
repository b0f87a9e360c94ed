"""Tables with one row per condition: the paper's, all others, sizes of objects, and two sweeps compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from featlink.paper import TABLES, PaperRow, paper_rows
from featlink.report.html import Page, Section
from featlink.report.sweep import Sweep, about, condition_of, label
from featlink.report.table import (
    MISSING,
    Column,
    Table,
    between,
    fidelity,
    kilobytes,
    number,
    percent,
    signed,
    with_interval,
)
from featlink.report.timing import overlaps, stages
from featlink.results import Row
from featlink.shared.conditions import registry
from featlink.shared.evaluation.confidence_intervals import Interval, interval
from featlink.shared.metrics.rank_correlation import spearman

TABLE2_NOTE = (
    "The paper's σ is not the same noise in both domains. Its PSNR[F] of 46.47, 37.33 and 33.12 dB means an RMSE of "
    "1.2, 3.5 and 5.6 on 0..255, about its σ of 1, 3 and 5; its PSNR[I] of 24.06, 17.35 and 15.33 dB means 16, 35 and "
    "44. The rows are reproduced as written; a comparison needs equal noise."
)
FIDELITY = (
    ("psnr_f", "PSNR[F] dB", 2),
    ("ssim_f", "SSIM[F]", 3),
    ("psnr_i", "PSNR[I] dB", 2),
    ("ssim_i", "SSIM[I]", 3),
)
"""Metric, heading and digits."""
_SIZES = ("AP", "APs", "APm", "APl")


def paper_tables(sweep: Sweep) -> list[Table]:
    """The paper's tables with ours beside them, of rows that the sweep has; Table 2 also at equal noise."""
    tables = []
    for key, title in TABLES.items():
        rows = [_paper_line(sweep, paper) for name, paper in paper_rows().items() if _ours(sweep, name, key)]
        if rows:
            notes = (TABLE2_NOTE,) if key == "table2" else ()
            caption = f"Table {key[-1]}. {title}: ours beside the paper's"
            tables.append(Table(caption, _paper_columns(sweep), rows, notes))
        equal = [row for row in sweep.rows if row.id.startswith(f"equal.{key}.")]
        if equal:
            caption = f"Table {key[-1]} at equal noise: the σ that the paper's PSNR[I] stands for, in both domains"
            tables.append(_plain(sweep, caption, equal, name=_parameters))
    return tables


def absent_table(sweep: Sweep) -> Table | None:
    """The paper's rows that the sweep has not, folded away; None where it has all."""
    lines = []
    for paper in paper_rows().values():
        if paper.id not in sweep.by_id:
            _, table, domain, parameters = paper.id.split(".", 3)
            cells = [f"{TABLES[table]}, {parameters}", domain, f"{paper.map:.1f}", percent(paper.retention)]
            lines.append([*cells, *(number(paper.fidelity.get(name), digits) for name, _, digits in FIDELITY)])
    columns = [*_names(), Column("AP %"), Column("retention %"), *(Column(title) for _, title, _ in FIDELITY)]
    caption = f"{len(lines)} rows of the paper that this sweep does not have: the paper's numbers"
    return Table(caption, columns, lines, folded=True) if lines else None


def _ours(sweep: Sweep, name: str, table: str) -> bool:
    return name in sweep.by_id and name.split(".")[1] == table


def other_table(sweep: Sweep) -> Table | None:
    """Every row that is in no other table: mixes, rank probes, losses, further strengths; None where there is none."""
    rows = [row for row in sweep.rows if not (row.clean or row.id.startswith(("paper.", "equal.")))]
    if not rows:
        return None
    order = ("mix", "rank probe", "loss", "single")
    labels = list(dict.fromkeys(label(row) for row in rows))
    rows.sort(key=lambda row: (order.index(purpose(row)), labels.index(label(row)), row.domain))
    table = _plain(sweep, "Conditions beyond the paper", rows, metrics=(*FIDELITY, ("spearman_f", "Spearman[F]", 3)))
    columns = [*table.columns[:2], Column("kind", number=False), *table.columns[2:]]
    lines = [[*line[:2], purpose(row), *line[2:]] for row, line in zip(rows, table.rows, strict=True)]
    return Table(table.caption, columns, lines)


def purpose(row: Row) -> str:
    """What a condition is for: a ``mix`` of distortions, a ``rank probe``, a ``loss``, or a ``single`` distortion."""
    made = registry.chain(condition_of(row))
    if len(made) > 1:
        return "mix"
    return {"probe": "rank probe", "loss": "loss"}.get(made[0].kind, "single") if made else "single"


def size_table(sweep: Sweep) -> Table:
    """AP by size of objects, with each size's retention."""
    columns = [*_names(), *(Column(size, f"AP {sweep.kind} %") for size in _SIZES)]
    columns += [Column(size, "retention %") for size in _SIZES]
    rows = []
    for row in sweep.rows:
        cells = [sweep.names[row.id], row.domain, sweep.ap_text(row)]
        cells += [percent(sweep.ap(row, metric=size)) for size in _SIZES[1:]]
        rows.append([*cells, *(percent(sweep.retention(row, metric=size)) for size in _SIZES)])
    caption = "AP and retention by size of objects: small below 32², medium below 96², large from 96² pixels"
    return Table(caption, columns, rows)


def summary_table(sweep: Sweep) -> Table:
    """Every row in a few columns, for a terminal; milliseconds only where no stages overlapped."""
    timed = not overlaps(sweep)
    sure = any(sweep.interval(row) for row in sweep.rows)
    rated = any(row.kbps is not None for row in sweep.rows)
    titles = ["AP", "kept", "kB", *(["kbit/s"] if rated else []), *(["95 %"] if sure else [])]
    titles += [*(column.title for column in _measure_columns(sweep)), *(["ms"] if timed else []), "PSNR", "paper"]
    rows = []
    for row in sweep.rows:
        paper = paper_rows().get(row.id)
        cells = [sweep.names[row.id], row.domain, percent(sweep.ap(row)), percent(sweep.retention(row)), kilobytes(row)]
        if rated:
            cells.append(number(row.kbps, 1))
        if sure:
            cells.append(between(sweep.interval(row)))
        cells += _measure_cells(sweep, row)
        if timed:
            cells.append(number(sum(stages(row).values()), 0))
        psnr = fidelity(row, "psnr_f" if row.domain == "feature" else "psnr_i", 2)
        rows.append([*cells, psnr, percent(None if paper is None else paper.retention)])
    note = (
        f"AP ({sweep.kind}) in %; kept: % of the clean AP of the domain, and what the paper has of it; kB an image; "
        f"{f'95 %: interval of AP over {sweep.over}; ' if sure else ''}"
        f"{'ms: time of all stages; ' if timed else ''}PSNR in dB: [F] of features, [I] of images."
    )
    return Table("Results", [*_names(), *map(Column, titles)], rows, (note,))


def _kept_cell(sweep: Sweep, row: Row, kind: str) -> str:
    return with_interval(percent(sweep.retention(row, kind)), sweep.retention_interval(row, kind))


def _measure_columns(sweep: Sweep) -> list[Column]:
    """First figures of other evaluators."""
    return [Column(f"{one.label} {one.unit}".strip()) for one in sweep.measures]


def _measure_cells(sweep: Sweep, row: Row) -> list[str]:
    return [
        with_interval(
            number(None if (value := sweep.ap(row, one.group)) is None else one.scale * value, 2),
            sweep.interval(row, one.group),
            one.scale,
        )
        for one in sweep.measures
    ]


def _names() -> list[Column]:
    return [Column("condition", number=False), Column("domain", number=False)]


def _paper_columns(sweep: Sweep) -> list[Column]:
    columns = [*_names(), *(Column(kind, "AP %") for kind in sweep.kinds), Column("paper", "AP %")]
    columns += [*(Column(kind, "retention %") for kind in sweep.kinds), Column("paper", "retention %")]
    columns += [Column("Δ", "retention %")]
    for _, title, _ in FIDELITY:
        columns += [Column("ours", title), Column("paper", title)]
    return [*columns, Column("kB/image"), Column("bpp"), *_measure_columns(sweep)]


def _paper_line(sweep: Sweep, paper: PaperRow) -> list[str]:
    row = sweep.by_id[paper.id]
    kept = sweep.retention(row)
    cells = [_parameters(row), row.domain, *(sweep.ap_text(row, kind) for kind in sweep.kinds), f"{paper.map:.1f}"]
    cells += [*(_kept_cell(sweep, row, kind) for kind in sweep.kinds), percent(paper.retention)]
    cells.append(signed(None if kept is None else 100 * (kept - paper.retention)))
    for name, _, digits in FIDELITY:
        cells += [fidelity(row, name, digits), number(paper.fidelity.get(name), digits)]
    return [*cells, kilobytes(row), number(row.bpp, 2), *_measure_cells(sweep, row)]


def _parameters(row: Row) -> str:
    """A condition of one distortion, which the table's caption names."""
    return label(row).partition("(")[2].rstrip(")")


def _plain(
    sweep: Sweep,
    caption: str,
    rows: Iterable[Row],
    metrics: tuple[tuple[str, str, int], ...] = FIDELITY,
    name: Callable[[Row], str] = label,
) -> Table:
    """Rows without a paper's number beside them."""
    columns = [*_names(), *(Column(kind, "AP %") for kind in sweep.kinds)]
    columns += [*(Column(kind, "retention %") for kind in sweep.kinds), *(Column(title) for _, title, _ in metrics)]
    columns += [Column("kB/image"), Column("bpp"), *_measure_columns(sweep)]
    lines = []
    for row in rows:
        cells = [name(row), row.domain, *(sweep.ap_text(row, kind) for kind in sweep.kinds)]
        cells += [_kept_cell(sweep, row, kind) for kind in sweep.kinds]
        cells += [fidelity(row, metric, digits) for metric, _, digits in metrics]
        lines.append([*cells, kilobytes(row), number(row.bpp, 2), *_measure_cells(sweep, row)])
    return Table(caption, columns, lines)


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
        kind: whose retention.
    """
    pairs: dict[str, list[tuple[float, float]]] = {table: [] for table in TABLES}
    for name, paper in paper_rows().items():
        row = sweep.by_id.get(name)
        retention = None if row is None else sweep.retention(row, kind)
        if retention is not None:
            pairs[name.split(".")[1]].append((retention, paper.retention))
    groups = {**pairs, "overall": [pair for group in pairs.values() for pair in group]}
    return {name: agreement([a for a, _ in group], [b for _, b in group]) for name, group in groups.items()}


def agreement_table(sweep: Sweep) -> Table | None:
    """Agreement by table of the paper, for each kind of AP; None where the sweep has none of the paper's rows."""
    found = {kind: by_table(sweep, kind) for kind in sweep.kinds}
    columns = [Column("table", number=False), Column("rows")]
    for kind in sweep.kinds:
        columns += [Column("Spearman ρ", kind), Column("mean |Δ|, points", kind)]
    titles = {key: f"{key[-1]} {title}" for key, title in TABLES.items()} | {"overall": "overall"}
    rows = []
    for key, title in titles.items():
        if found[sweep.kind][key].rows:
            rows.append([title, str(found[sweep.kind][key].rows)])
            for each in found.values():
                rows[-1] += [number(each[key].spearman, 2), percent(each[key].error)]
    caption = "Retention, ours against the paper's: rank correlation, and mean absolute difference in percentage points"
    return Table(caption, columns, rows) if rows else None


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
    common = _common(a, b)
    same = sum(_figures(one) == _figures(other) for one, other in common)
    statement = f"{same} of {len(common)} common conditions have the same AP, bits and fidelity to the last digit."
    section = Section("compare", "By condition", "", [what, compare_table(a, b)])
    return Page("Two sweeps compared", "", statement, [], [], [section])


def _kinds(a: Sweep, b: Sweep) -> list[str]:
    """The APs both have."""
    return [kind for kind in a.kinds if kind in b.kinds]


def _common(a: Sweep, b: Sweep) -> list[tuple[Row, Row]]:
    return [(row, b.by_id[row.id]) for row in a.rows if row.id in b.by_id]


def _figures(row: Row) -> tuple[object, ...]:
    return row.images, row.scores, row.bits_per_image, row.fidelity


def _line(a: Sweep, b: Sweep, one: Row, other: Row, kinds: list[str]) -> list[str]:
    cells = [a.names[one.id], one.domain]
    for kind in kinds:
        first, second = a.ap(one, kind), b.ap(other, kind)
        less = with_interval(signed(_less(second, first, 100), 2), _less_interval(a, b, one, other, kind))
        cells += [a.ap_text(one, kind), b.ap_text(other, kind), less]
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
