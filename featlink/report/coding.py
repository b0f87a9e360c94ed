"""Compare the coding of pixels, features and reduced features: every set of named rows of a kind in one plot.

The kinds are ``fcm``, of stills, and ``seq``, of sequences; they differ in anchors and in the unit of the rate.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from featlink.errors import CommandError
from featlink.report.curves import (
    NAMES,
    SYMBOLS,
    Curve,
    Figure,
    Position,
    axis,
    bits_per_pixel,
    colour,
    compare,
    curve,
    points,
)
from featlink.report.sweep import Sweep, about, condition_of, label
from featlink.report.table import Column, Table, kilobytes, number
from featlink.report.timing import spent
from featlink.results import Row, leading_groups
from featlink.shared.conditions import registry
from featlink.shared.timing import Place

LEAST_POINTS = 4
"""As VCEG-M33 has it."""


@dataclass(frozen=True)
class Kind:
    """A kind of named rows that are compared.

    Attributes:
        prefix: of their names; then comes the set's name, and last the point's.
        parts: how many parts the set's name has, with dots between them.
        anchors: names of the sets that others are compared with, where there are such.
        rate: of a row, where the sweep has it.
        title: of the plot's axis of rates.
        unit: of the rate in tables, with its digits.
        id: of the plot.
        least_of_draws: points that each front of a BD-rate needs in a bootstrap draw. In draws of a few clips, chance
            puts some of the measured points off the front.
    """

    prefix: str
    parts: int
    anchors: tuple[str, ...]
    rate: Position
    title: str
    unit: tuple[str, int]
    id: str
    least_of_draws: int = LEAST_POINTS

    def set_of(self, row: Row) -> str | None:
        """The name of the set that a row is of; None of others."""
        if not row.id.startswith(self.prefix):
            return None
        return ".".join(row.id.removeprefix(self.prefix).split(".")[: self.parts])


FCM = Kind(
    "fcm.",
    1,
    ("pixels", "hull", "tiled"),
    bits_per_pixel,
    "bits per pixel of the original picture",
    ("bpp", 3),
    "feature-coding",
)


SEQ = Kind(
    "seq.",
    2,
    ("pixels.live", "pixels.vvc_ld", "pixels.vvc_ra"),
    lambda row: row.kbps,
    "kbit/s at the clips' frame rate",
    ("kbit/s", 1),
    "sequence-coding",
    least_of_draws=2,
)
SEQ_BY_FRAME = replace(SEQ, rate=lambda row: row.bits_per_image / 8000, title="kB a frame", unit=("kB a frame", 2))
"""Where no frame rate is known."""
KINDS = (FCM, SEQ)

CODING_PLACES: tuple[Place, Place] = ("edge", "cloud")
"""Where is encoded, and where decoded."""

_STARTER = (
    "The bundled detector flatters feature coding. Its levels have an effective rank of 51 to 77 of 256 channels, so "
    "any linear reduction loses little; and its scenes are drawings, where photos cost pixels more bits. For numbers "
    "of photos and the official weights: `featlink fetch coco-val2017 --out coco`; `featlink fit pca --weights coco "
    "--dataset PHOTOS` and `featlink fit bottleneck` alike, with other photos; `featlink bench --dataset coco "
    "--weights coco --conditions fcm --out out/fcm`; `featlink report out/fcm`."
)


def coding_curves(
    sweep: Sweep, others: Sequence[Curve] = (), ap: str | None = None, kind: Kind = FCM, any_family: bool = False
) -> list[Curve]:
    """Our curves: the sets of named rows, or, beside curves of others or where so asked, what trades bits for AP.

    Args:
        sweep: ours.
        others: curves that ours are to stand beside.
        ap: which AP; default: the leading one.
        kind: of the sets.
        any_family: take what trades bits for AP where there are no sets.
    """
    sets: dict[str, list[Row]] = {}
    for row in sweep.rows:
        if name := kind.set_of(row):
            sets.setdefault(name, []).append(row)
    if not sets and (others or any_family):
        found = [family for family in sweep.families if family.changes_bits and len(family.rows) > 1]
        sets = {f"{NAMES[family.domain]}: {family.name}": list(family.rows) for family in found}
    return [curve(sweep, name, rows, kind.rate, ap) for name, rows in sets.items()]


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


def coding_figure(sweep: Sweep, ours: Sequence[Curve], others: Sequence[Curve], kind: Kind = FCM) -> Figure:
    """AP against bits, with intervals."""
    traces = []
    dashes = {
        "image": cycle(["solid", "dot", "dash"]),
        "feature": cycle(["solid", "dash", "dot", "dashdot", "longdash"]),
    }
    for one, symbol in zip([*ours, *others], cycle(SYMBOLS), strict=False):
        domain = one.rows[0].domain if one.rows else "muted"
        dash = next(dashes[domain]) if domain in dashes else "longdashdot"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": one.name,
                **points(sweep, one, one.name),
                "line": {"color": colour(domain), "width": 2, "dash": dash},
                "marker": {"color": colour(domain), "size": 9, "symbol": symbol},
            }
        )
    layout = {
        "xaxis": axis(kind.title, type="log", dtick=1),
        "yaxis": axis(f"AP {sweep.kind} %", rangemode="tozero"),
    }
    theirs = " Grey: curves of others, of whatever images and model their source had." if others else ""
    caption = (
        f"Of two points at one height, the one further left needs fewer bits. Bars: 95 % interval over {sweep.over}."
        + theirs
    )
    return Figure(kind.id, "Accuracy against bits of coded pixels and features", caption, traces, layout)


def coding_bd_table(sweep: Sweep, others: Sequence[Curve], kind: Kind = FCM, any_family: bool = False) -> Table | None:
    """BD-rate of every curve against the kind's anchors, or each of ours against others'."""
    rows = []
    for ap in sweep.kinds:
        ours = coding_curves(sweep, others, ap, kind, any_family)
        named = [one for one in ours if one.name in kind.anchors]
        for anchor in named or ours:
            for test in [*(ours if named else []), *others]:
                if test is not anchor:
                    found = compare(anchor, test, LEAST_POINTS, kind.least_of_draws)
                    counts = f"{found.points[1]} / {found.points[0]}"
                    rows.append([test.name, anchor.name, ap, str(found), counts, found.share])
    if not rows:
        return None
    columns = [Column(title, number=False) for title in ("curve", "against", "AP", "BD-rate")]
    columns += [Column("points"), Column("overlap %")]
    notes = (
        f"Average difference of bits at equal AP, by PCHIP through the Pareto front of each curve, from {LEAST_POINTS} "
        f"points on each; in brackets the 95 % bootstrap interval over {sweep.over}, paired. Points: of the curve and "
        "of what it is compared with. Overlap: share of the range of AP that both cover.",
    )
    return Table("BD-rate (Bjøntegaard) of coded pixels and features", columns, rows, notes)


def points_table(
    sweep: Sweep, ours: Sequence[Curve], kind: Kind = FCM, more: Sequence[tuple[Column, Callable[[Row], str]]] = ()
) -> Table:
    """Every point of our curves.

    Args:
        sweep: theirs.
        ours: the curves.
        kind: of the sets.
        more: further columns, behind the APs, with what makes their cells.
    """
    rate, digits = kind.unit
    columns = [Column("curve", number=False), Column("condition", number=False), Column(rate), Column("kB/image")]
    columns += [*(Column(ap, "AP %") for ap in sweep.kinds), *(column for column, _ in more)]
    columns += [Column("encode", "ms"), Column("decode", "ms")]
    lines = []
    for one in ours:
        for row in sorted(one.rows, key=sweep.rows.index):
            aps = [sweep.ap_text(row, ap) for ap in sweep.kinds]
            times = (number(spent(row, place, coding=True), 0) for place in CODING_PLACES)
            cells = [one.name, label(row), number(kind.rate(row), digits), kilobytes(row), *aps]
            lines.append([*cells, *(cell(row) for _, cell in more), *times])
    note = "Encode: reduction and encoder; decode: decoder and restoring. As measured in this sweep."
    return Table("Points of the curves", columns, lines, (note,))


_COLUMNS = ("bpp", "ap")
_MOST_POINTS = 1000


def external_curves(given: Iterable[str]) -> list[Curve]:
    """Curves from ``NAME=FILE`` texts.

    Args:
        given: each a name and a CSV file with the columns ``bpp`` (bits per pixel of the original picture) and ``AP``,
            in percent if one of them is above 1. Other columns may be there.

    Raises:
        CommandError: not such a text, or such a file; names are given twice.
    """
    curves: dict[str, Curve] = {}
    for text in given:
        name, found, file = text.partition("=")
        if not (found and name.strip() and file.strip()):
            raise CommandError(f"a curve is NAME=FILE.csv, not {text!r}")
        if name.strip() in curves:
            raise CommandError(f"two curves are called {name.strip()!r}")
        curves[name.strip()] = Curve(name.strip(), _points(Path(file.strip())))
    return list(curves.values())


def _points(path: Path) -> list[tuple[float, float]]:
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{path} is not a CSV file: {error}") from None
    heading = [cell.strip().lower() for cell in lines[0]] if lines else []
    if any(heading.count(column) != 1 for column in _COLUMNS):
        raise CommandError(f"{path} needs a first line that names the columns bpp and AP")
    rows = [line for line in lines[1:] if any(cell.strip() for cell in line)]
    if not 1 <= len(rows) <= _MOST_POINTS:
        raise CommandError(f"{path} has {len(rows)} points, not 1 to {_MOST_POINTS}")
    places = [heading.index(column) for column in _COLUMNS]
    points = [_numbers(path, number, line, places) for number, line in enumerate(rows, 2)]
    unit = 100 if max(ap for _, ap in points) > 1 else 1
    if max(ap for _, ap in points) > 100:
        raise CommandError(f"{path} has an AP above 100 %")
    return sorted((bpp, ap / unit) for bpp, ap in points)


def _numbers(path: Path, number: int, line: list[str], places: list[int]) -> tuple[float, float]:
    try:
        bpp, ap = (float(line[place]) for place in places)
    except (ValueError, IndexError):
        raise CommandError(f"{path}, line {number}: bpp and AP are not both numbers") from None
    if not (math.isfinite(bpp) and bpp > 0 and math.isfinite(ap) and ap >= 0):
        raise CommandError(f"{path}, line {number}: bpp is to be above 0, AP from 0 on")
    return bpp, ap


def rate_csv(sweep: Sweep) -> str:
    """One line per row of a curve whose strength trades bits for AP, and per clean run.

    ``AP`` is the sweep's leading one, in percent, with its 95 % interval; ``QP`` the strength, whatever the step calls
    it; times are seconds an image, of reducing and encoding, and of decoding and restoring.
    """
    boxes = leading_groups()[-1]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    aps = [f"AP{kind}{end}" for kind in ("", f"_{boxes}") for end in ("", "_low", "_high")]
    writer.writerow(["curve", "domain", "condition", "QP", "bpp", *aps, "encode_s", "decode_s"])
    written = {row.id for family in sweep.families if family.changes_bits for row in family.rows}
    names = {row.id: family.name for family in sweep.families for row in family.rows}
    for row in sweep.rows:
        name = next(filter(None, (kind.set_of(row) for kind in KINDS)), None)
        if row.clean or row.id in written or name:
            name = name or ("clean" if row.clean else names[row.id])
            figures = _figures(sweep, row, (sweep.kind, boxes))
            writer.writerow([name, row.domain, row.condition, _strength(row), f"{row.bpp:.6g}", *figures])
    return text.getvalue()


def _figures(sweep: Sweep, row: Row, kinds: tuple[str, str]) -> list[str]:
    cells: list[float | None] = []
    for kind in kinds:
        ends = sweep.interval(row, kind) or (None, None)
        cells += [None if one is None else 100 * one for one in (sweep.ap(row, kind), *ends)]
    seconds = [spent(row, place, coding=True) / 1e3 for place in CODING_PLACES]
    return ["" if one is None else f"{one:.4f}" for one in [*cells, *seconds]]


def _strength(row: Row) -> str:
    varied = [getattr(step, step.strength) for step in registry.chain(condition_of(row)) if step.strength]
    given = [value for value in varied if value is not None]
    return f"{given[-1]:g}" if given else ""
