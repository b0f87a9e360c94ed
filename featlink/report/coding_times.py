"""What coding takes by stage, when it pays against pixels of like accuracy, and what transfers to other machines."""

from __future__ import annotations

from featlink.costs import of_row
from featlink.report.families import families
from featlink.report.latency import CLOUD, break_even, cost, stages
from featlink.report.sweep import Sweep, condition_of, label
from featlink.report.table import MISSING, Column, Table, kilobytes, number, percent, with_interval
from featlink.results import Row
from featlink.shared.conditions import registry

_CODING = (("reduce", "reduce"), ("compress", "encode"), ("decompress", "decode"), ("restore", "restore"))


def coding_times_table(sweep: Sweep) -> Table | None:
    """Stages of every coded row, and the link rate from which features pay; None without coded rows that have times."""
    coded = {row.id for family in families(sweep.rows) if family.changes_bits for row in family.rows}
    rows = [row for row in sweep.rows if row.id in coded and {"reduce", "compress"} & dict(stages(row)).keys()]
    if not rows:
        return None
    pixels = [row for row in sweep.rows if row.domain == "image" and (row.id in coded or row.clean)]
    lines = []
    for row in rows:
        times = dict(stages(row))
        cells = [sweep.names[row.id], row.domain, with_interval(percent(sweep.ap(row)), sweep.interval(row))]
        cells += [kilobytes(row), *(number(times.get(stage), 0) for stage, _ in _CODING)]
        rest = {name: ms for name, ms in times.items() if name not in (*dict(_CODING), "transfer")}
        for cloud in (False, True):
            cells.append(number(sum(ms for name, ms in rest.items() if (name in CLOUD) == cloud), 0))
        anchor = _as_accurate(sweep, row, pixels) if row.domain == "feature" else None
        told = [MISSING, MISSING] if anchor is None else [label(anchor), str(break_even(cost(row), cost(anchor)))]
        lines.append([*cells, *told])
    columns = [Column("condition", number=False), Column("domain", number=False), Column("AP %"), Column("kB/image")]
    columns += [Column(title, "coding, ms") for _, title in _CODING]
    columns += [Column(title, "the rest, ms") for title in ("edge", "cloud")]
    columns += [Column("pixels of like AP", number=False), Column("features are faster", number=False)]
    note = (
        "Reduce and encode count for the edge, decode and restore for the cloud. Pixels of like AP: the cheapest row "
        "of the image domain that is at least as accurate."
    )
    return Table(
        "What coding takes, and when features pay against pixels that are as accurate", columns, lines, (note,)
    )


def _as_accurate(sweep: Sweep, row: Row, pixels: list[Row]) -> Row | None:
    ap = sweep.ap(row)
    enough = [one for one in pixels if ap is not None and (other := sweep.ap(one)) is not None and other >= ap]
    return min(enough, key=lambda one: one.bits_per_image, default=None)


def multiply_adds_table(sweep: Sweep) -> Table | None:
    """Multiply-adds beside milliseconds, of both domains and each reduction; None where the manifest has none."""
    found = sweep.manifest.get("multiply_adds")
    if not found:
        return None
    shown: dict[str, Row] = {}
    for row in sweep.rows:
        reductions = [step for step in registry.chain(condition_of(row)) if step.kind == "reduction"]
        if row.clean or reductions:
            shown.setdefault(" | ".join(str(step.spec) for step in reductions) or f"clean {row.domain}", row)
    lines = []
    for name, row in shown.items():
        counted, times = of_row(found, row.id, row.domain), stages(row)
        spent = [sum(ms for stage, ms in times if stage != "transfer" and (stage in CLOUD) == c) for c in (False, True)]
        cells = [MISSING, MISSING] if counted is None else [number(one / 1e9, 1) for one in counted]
        lines.append([name, row.domain, *cells, *(number(ms, 0) for ms in spent)])
    columns = [Column("what is sent", number=False), Column("domain", number=False)]
    columns += [Column(title, "10⁹ multiply-adds") for title in ("edge", "cloud")]
    columns += [Column(title, "ms") for title in ("edge", "cloud")]
    notes = (
        "An image on average. Multiply-adds are those of the dense network and of reductions, by "
        "torch.utils.flop_counter and from the sizes of the matrices; encoders and decoders have none. They are the "
        "same on every machine, milliseconds are this one's, coding of the first such row included.",
    )
    return Table("Cost that transfers", columns, lines, notes)
