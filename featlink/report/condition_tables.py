"""Tables with one row per condition: the paper's five, equal noise, sizes of objects, and all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from featlink.paper import TABLES, PaperRow, paper_rows
from featlink.report.latency import overlaps, stages
from featlink.report.sweep import Sweep, condition_of, label
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
from featlink.results import Row
from featlink.shared.conditions import registry

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
    """The paper's five tables with ours beside them; a row the sweep lacks shows the paper's numbers alone."""
    tables = []
    for key, title in TABLES.items():
        names = [name for name in paper_rows() if name.split(".")[1] == key]
        rows = [_paper_line(sweep, paper_rows()[name]) for name in names]
        notes = (TABLE2_NOTE,) if key == "table2" else ()
        tables.append(Table(f"Table {key[-1]}. {title}: ours beside the paper's", _paper_columns(sweep), rows, notes))
    return tables


def equal_noise_table(sweep: Sweep) -> Table | None:
    """The equal-noise companion of Table 2; None where the sweep has no such rows."""
    rows = [row for row in sweep.rows if row.id.startswith("equal.table2.")]
    if not rows:
        return None
    return _plain(
        sweep,
        "Table 2 at equal noise: the σ that the paper's PSNR[I] stands for, in both domains",
        rows,
        name=_parameters,
    )


def other_table(sweep: Sweep) -> Table | None:
    """Every row that is in no other table: mixes, rank probes, losses, further strengths; None where there is none."""
    rows = [row for row in sweep.rows if not (row.clean or row.id.startswith(("paper.", "equal.")))]
    if not rows:
        return None
    order = ("mix", "rank probe", "loss", "single")
    labels = list(dict.fromkeys(label(row) for row in rows))
    rows.sort(key=lambda row: (order.index(sort_of(row)), labels.index(label(row)), row.domain))
    table = _plain(sweep, "Conditions beyond the paper", rows, metrics=(*FIDELITY, ("spearman_f", "Spearman[F]", 3)))
    columns = [*table.columns[:2], Column("kind", number=False), *table.columns[2:]]
    lines = [[*line[:2], sort_of(row), *line[2:]] for row, line in zip(rows, table.rows, strict=True)]
    return Table(table.caption, columns, lines)


def sort_of(row: Row) -> str:
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
        cells = [sweep.names[row.id], row.domain, ap_cell(sweep, row)]
        cells += [percent(sweep.ap(row, metric=size)) for size in _SIZES[1:]]
        rows.append([*cells, *(percent(sweep.retention(row, metric=size)) for size in _SIZES)])
    caption = "AP and retention by size of objects: small below 32², medium below 96², large from 96² pixels"
    return Table(caption, columns, rows)


def summary_table(sweep: Sweep) -> Table:
    """Every row in a few columns, for a terminal; milliseconds only where no stages overlapped."""
    timed = not overlaps(sweep)
    sure = any(sweep.interval(row) for row in sweep.rows)
    titles = ("AP", "kept", "kB", *(("95 %",) if sure else ()), *(("ms",) if timed else ()), "PSNR", "paper")
    rows = []
    for row in sweep.rows:
        paper = paper_rows().get(row.id)
        cells = [sweep.names[row.id], row.domain, percent(sweep.ap(row)), percent(sweep.retention(row)), kilobytes(row)]
        if sure:
            cells.append(between(sweep.interval(row)))
        if timed:
            cells.append(number(sum(ms for _, ms in stages(row)), 0))
        psnr = fidelity(row, "psnr_f" if row.domain == "feature" else "psnr_i", 2)
        rows.append([*cells, psnr, percent(None if paper is None else paper.retention)])
    note = (
        f"AP ({sweep.kind}) in %; kept: % of the clean AP of the domain, and what the paper has of it; kB an image; "
        f"{'95 %: interval of AP over images; ' if sure else ''}"
        f"{'ms: time of all stages; ' if timed else ''}PSNR in dB: [F] of features, [I] of images."
    )
    return Table("Results", [*_names(), *map(Column, titles)], rows, (note,))


def ap_cell(sweep: Sweep, row: Row, kind: str | None = None) -> str:
    """A row's AP in percent, with its interval where there is one."""
    return with_interval(percent(sweep.ap(row, kind)), sweep.interval(row, kind))


def _kept_cell(sweep: Sweep, row: Row, kind: str) -> str:
    return with_interval(percent(sweep.retention(row, kind)), sweep.retention_interval(row, kind))


def _names() -> list[Column]:
    return [Column("condition", number=False), Column("domain", number=False)]


def _paper_columns(sweep: Sweep) -> list[Column]:
    columns = [*_names(), *(Column(kind, "AP %") for kind in sweep.kinds), Column("paper", "AP %")]
    columns += [*(Column(kind, "retention %") for kind in sweep.kinds), Column("paper", "retention %")]
    columns += [Column("Δ", "retention %")]
    for _, title, _ in FIDELITY:
        columns += [Column("ours", title), Column("paper", title)]
    return [*columns, Column("kB/image"), Column("bpp")]


def _paper_line(sweep: Sweep, paper: PaperRow) -> list[str]:
    row = sweep.by_id.get(paper.id)
    if row is None:
        return _absent(sweep, paper)
    kept = sweep.retention(row)
    cells = [_parameters(row), row.domain, *(ap_cell(sweep, row, kind) for kind in sweep.kinds), f"{paper.map:.1f}"]
    cells += [*(_kept_cell(sweep, row, kind) for kind in sweep.kinds), percent(paper.retention)]
    cells.append(signed(None if kept is None else 100 * (kept - paper.retention)))
    for name, _, digits in FIDELITY:
        cells += [fidelity(row, name, digits), number(paper.fidelity.get(name), digits)]
    return [*cells, kilobytes(row), number(row.bpp, 2)]


def _parameters(row: Row) -> str:
    """A condition of one distortion, which the table's caption names."""
    return label(row).partition("(")[2].rstrip(")")


def _absent(sweep: Sweep, paper: PaperRow) -> list[str]:
    _, _, domain, parameters = paper.id.split(".", 3)
    none = [MISSING] * len(sweep.kinds)
    cells = [f"{parameters} (not in this sweep)", domain, *none, f"{paper.map:.1f}", *none, percent(paper.retention)]
    cells.append(MISSING)
    for name, _, digits in FIDELITY:
        cells += [MISSING, number(paper.fidelity.get(name), digits)]
    return [*cells, MISSING, MISSING]


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
    columns += [Column("kB/image"), Column("bpp")]
    lines = []
    for row in rows:
        cells = [name(row), row.domain, *(ap_cell(sweep, row, kind) for kind in sweep.kinds)]
        cells += [_kept_cell(sweep, row, kind) for kind in sweep.kinds]
        cells += [fidelity(row, metric, digits) for metric, _, digits in metrics]
        lines.append([*cells, kilobytes(row), number(row.bpp, 2)])
    return Table(caption, columns, lines)
