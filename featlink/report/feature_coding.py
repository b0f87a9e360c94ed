"""What coding costs pixels, features and reduced features: every set of named ``fcm`` rows in one plot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from featlink.report.about import about
from featlink.report.bd import bd_interval, bd_rate
from featlink.report.curve import Curve, curve
from featlink.report.families import families
from featlink.report.figure import NAMES, SYMBOLS, Figure, axis, colour, error_bars
from featlink.report.latency import stages
from featlink.report.sweep import Sweep, label
from featlink.report.table import MISSING, Column, Table, kilobytes, number, percent, signed, with_interval
from featlink.results import Row

PREFIX = "fcm."
ANCHORS = ("pixels", "tiled")
LEAST_POINTS = 4
"""As VCEG-M33 has it."""

ENCODING = ("reduce", "compress")
DECODING = ("decompress", "restore")

_STARTER = (
    "The bundled detector flatters feature coding. Its levels have an effective rank of 51 to 77 of 256 channels, so "
    "any linear reduction loses little; and its scenes are drawings, where photos cost pixels more bits. For numbers "
    "of photos and the official weights: `featlink fetch coco-val2017 --out coco`; `featlink fit pca --weights coco "
    "--dataset PHOTOS` and `featlink fit bottleneck` alike, with other photos; `featlink bench --dataset coco "
    "--weights coco --conditions fcm --out out/fcm`; `featlink report out/fcm`."
)


def coding_curves(sweep: Sweep, others: Sequence[Curve] = (), kind: str | None = None) -> list[Curve]:
    """Our curves, in bits per pixel: the sets of named rows, or, beside curves of others, what trades bits for AP.

    Args:
        sweep: ours.
        others: curves that ours are to stand beside.
        kind: ``segm`` or ``bbox``; default: the leading one.
    """
    sets: dict[str, list[Row]] = {}
    for row in sweep.rows:
        if row.id.startswith(PREFIX):
            sets.setdefault(row.id.split(".")[1], []).append(row)
    if not sets and others:
        found = [family for family in families(sweep.rows) if family.changes_bits and len(family.rows) > 1]
        sets = {f"{NAMES[family.domain]}: {family.name}": list(family.rows) for family in found}
    return [curve(sweep, name, rows, kind, per_pixel=True) for name, rows in sets.items()]


def coding_blocks(sweep: Sweep, others: Sequence[Curve] = ()) -> list[Table | Figure | str]:
    """The section's blocks; none where the sweep has no such rows and there are no curves of others."""
    ours = coding_curves(sweep, others)
    if not ours:
        return []
    blocks: list[Table | Figure | str] = []
    if "starter" in Path(about(sweep).weights).name.lower():
        blocks.append(_STARTER)
    blocks.append(coding_figure(sweep, ours, others))
    bd = coding_bd_table(sweep, others)
    return [*blocks, *([bd] if bd else []), points_table(sweep, ours)]


def coding_figure(sweep: Sweep, ours: Sequence[Curve], others: Sequence[Curve]) -> Figure:
    """AP against bits, with intervals."""
    traces = []
    dashes = {"image": cycle(["solid", "dot"]), "feature": cycle(["solid", "dash", "dot", "dashdot", "longdash"])}
    for one, symbol in zip([*ours, *others], cycle(SYMBOLS), strict=False):
        domain = one.rows[0].domain if one.rows else "muted"
        rows: Sequence[Row | None] = one.rows or [None] * len(one.points)
        points = sorted(zip(one.points, rows, strict=True), key=lambda point: point[0])
        dash = next(dashes[domain]) if domain in dashes else "longdashdot"
        ends = [(ap, None if row is None else sweep.interval(row)) for (_, ap), row in points]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": one.name,
                "x": [bpp for (bpp, _), _ in points],
                "y": [100 * ap for (_, ap), _ in points],
                "text": [
                    one.name if row is None else f"{one.name}: {label(row)}<br>{kilobytes(row)} kB an image"
                    for _, row in points
                ],
                "hovertemplate": "%{text}<br>AP %{y:.1f} at %{x:.4g} bpp<extra></extra>",
                "line": {"color": colour(domain), "width": 2, "dash": dash},
                "marker": {"color": colour(domain), "size": 9, "symbol": symbol},
                **error_bars(ends),
            }
        )
    layout = {
        "xaxis": axis("bits per pixel of the original picture", type="log", dtick=1),
        "yaxis": axis(f"AP {sweep.kind} %", rangemode="tozero"),
    }
    theirs = " Grey: curves of others, of whatever images and model their source had." if others else ""
    caption = (
        "Of two points at one height, the one further left needs fewer bits. Bars: 95 % interval over images." + theirs
    )
    return Figure("feature-coding", "Accuracy against bits of coded pixels and features", caption, traces, layout)


def coding_bd_table(sweep: Sweep, others: Sequence[Curve]) -> Table | None:
    """BD-rate of every curve against the anchors: pixels and tiled features, or each of ours against others'."""
    rows = []
    for kind in sweep.kinds:
        ours = coding_curves(sweep, others, kind)
        named = [one for one in ours if one.name in ANCHORS]
        for anchor in named or ours:
            for test in [*(ours if named else []), *others]:
                if test is not anchor:
                    rows.append([test.name, anchor.name, kind, *_bd_cells(anchor, test)])
    if not rows:
        return None
    columns = [Column(title, number=False) for title in ("curve", "against", "AP", "BD-rate")]
    columns += [Column("points"), Column("overlap %")]
    notes = (
        f"Average difference of bits at equal AP, by PCHIP through the Pareto front of each curve, from {LEAST_POINTS} "
        "points on each; in brackets the 95 % bootstrap interval over images, paired. Points: of the curve and of what "
        "it is compared with. Overlap: share of the range of AP that both cover.",
    )
    return Table("BD-rate (Bjøntegaard) of coded pixels and features", columns, rows, notes)


def _bd_cells(anchor: Curve, test: Curve) -> list[str]:
    found = bd_rate(anchor.points, test.points, LEAST_POINTS)
    points = f"{found.points[1]} / {found.points[0]}"
    if found.percent is None:
        return [f"not defined: {found.reason}", points, MISSING]
    told = with_interval(f"{signed(found.percent)} %", bd_interval(anchor, test, LEAST_POINTS), 1)
    return [told, points, percent(found.overlap, 0)]


def points_table(sweep: Sweep, ours: Sequence[Curve]) -> Table:
    """Every point of our curves."""
    columns = [Column("curve", number=False), Column("condition", number=False), Column("bpp"), Column("kB/image")]
    columns += [Column(kind, "AP %") for kind in sweep.kinds] + [Column("encode", "ms"), Column("decode", "ms")]
    lines = []
    for one in ours:
        for row in one.rows:
            aps = [with_interval(percent(sweep.ap(row, kind)), sweep.interval(row, kind)) for kind in sweep.kinds]
            times = dict(stages(row))
            spent = [sum(times[name] for name in names if name in times) for names in (ENCODING, DECODING)]
            lines.append(
                [one.name, label(row), number(row.bpp, 3), kilobytes(row), *aps, *(number(ms, 0) for ms in spent)]
            )
    note = "Encode: reduction and encoder; decode: decoder and restoring. As measured in this sweep."
    return Table("Points of the curves", columns, lines, (note,))
