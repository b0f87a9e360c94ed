"""Timings: the stages of both domains, break-even link rates, and costs that do not depend on the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featlink.costs import of_row
from featlink.report.curves import NAMES, Figure, axis, colour, rate_pairs
from featlink.report.sweep import DOMAINS, Sweep, condition_of, label
from featlink.report.table import MISSING, Column, Table, kilobytes, mbps, number
from featlink.results import Row
from featlink.shared.conditions import registry
from featlink.shared.timing import STAGES, Place, Stage, in_order

_SPEEDS = ((0.25, "4× slower cloud"), (1.0, "as measured"), (4.0, "4× faster cloud"))


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        ms: computing time, without transfer.
        bits: what crosses the link.
    """

    ms: float
    bits: float


@dataclass(frozen=True)
class BreakEven:
    """When sending features is faster.

    Attributes:
        faster: ``above`` or ``below`` ``mbps``, ``always``, ``never``, or ``equal`` at every rate.
        mbps: the link rate at which both take as long, in 10⁶ bits per second; None where there is none.
    """

    faster: str
    mbps: float | None = None

    def __str__(self) -> str:
        if self.mbps is not None:
            return f"{self.faster} {mbps(self.mbps)} Mbit/s"
        return {"always": "at any rate", "never": "at no rate", "equal": "no difference"}[self.faster]


def break_even(feature: Cost, image: Cost) -> BreakEven:
    """The link rate R where computing time + bits/R is the same in both domains.

    Features are faster where (bits_f − bits_i)/R < ms_i − ms_f: more bits pay above a rate if they save computing
    time, fewer bits pay below a rate if they cost computing time.

    Example:
        >>> print(break_even(feature=Cost(ms=100, bits=4e6), image=Cost(ms=300, bits=2e6)))
        above 10 Mbit/s
        >>> print(break_even(feature=Cost(ms=300, bits=1e6), image=Cost(ms=100, bits=2e6)))
        below 5 Mbit/s
    """
    more_bits, saved_ms = feature.bits - image.bits, image.ms - feature.ms
    if more_bits * saved_ms > 0:
        return BreakEven("above" if more_bits > 0 else "below", more_bits / saved_ms / 1000)
    if not more_bits and not saved_ms:
        return BreakEven("equal")
    return BreakEven("always" if saved_ms >= 0 and more_bits <= 0 else "never")


def stages(row: Row) -> dict[Stage, float]:
    """Milliseconds of a row's stages, in the order of a picture's way, without those that only a simulator has."""
    timings = {name: ms for name, ms in row.timings.items() if ms is not None}
    return {stage: timings[stage.name] for stage in in_order(timings) if not stage.simulated}


def spent(row: Row, place: Place, coding: bool | None = None) -> float:
    """Milliseconds of the row's stages at a place; only those that code, or only the others, where so asked."""
    return sum(ms for one, ms in stages(row).items() if one.place == place and coding in (None, one.coding))


def cost(row: Row, cloud_speed: float = 1.0) -> Cost:
    """What a row's images cost on average, with a cloud ``cloud_speed`` times as fast as measured."""
    return Cost(spent(row, "edge") + spent(row, "cloud") / cloud_speed, row.bits_per_image)


def overlaps(sweep: Sweep) -> bool:
    """Whether stages overlapped in at least one call of the sweep, so that their times include waiting."""
    calls = [sweep.manifest, *sweep.manifest.get("before", [])]
    engines = [call["engine"] for call in calls if "engine" in call]
    return any(engine.get("name") != "http" and engine.get("threads") != 1 for engine in engines)


def timed_pairs(sweep: Sweep) -> list[tuple[Row, Row]]:
    """Clean features and image, then feature and image rows under equal strengths of a codec or quantiser."""
    candidates = [(sweep.clean("feature"), sweep.clean("image"))]
    for feature, image in rate_pairs(sweep):
        candidates += [(row, next((r for r in image.rows if label(r) == label(row)), None)) for row in feature.rows]
    return [(f, i) for f, i in candidates if f is not None and i is not None and f.timings and i.timings]


def break_even_table(sweep: Sweep) -> Table | None:
    """When features are faster, by condition and speed of the cloud; None without timings of both domains."""
    rows = []
    for feature, image in timed_pairs(sweep):
        f, i = cost(feature), cost(image)
        cells = [label(feature), number(f.ms, 0), number(i.ms, 0), kilobytes(feature), kilobytes(image)]
        for speed, _ in _SPEEDS:
            cells.append(str(break_even(cost(feature, speed), cost(image, speed))))
        rows.append(cells)
    if not rows:
        return None
    columns = [Column("condition", number=False)]
    columns += [Column(NAMES[domain], "computing, ms") for domain in DOMAINS]
    columns += [Column(NAMES[domain], "kB per image") for domain in DOMAINS]
    columns += [Column(title, "features are faster") for _, title in _SPEEDS]
    notes = (
        "Time of an image = computing + bits / link rate; round trips cost both domains the same. Computing includes "
        "coding and decoding, not the measuring of fidelity. Both halves were measured on the same machine; the other "
        "columns divide the cloud's part by its speed.",
    )
    return Table("Break-even: at which link rate sending features beats sending pixels", columns, rows, notes)


def waterfall(feature: Row, image: Row, identity: str) -> Figure:
    """Stages of one condition in both domains, each beginning where the last one ended.

    Args:
        feature: the condition's row in the feature domain.
        image: and in the image domain.
        identity: of the figure.
    """
    traces: list[dict[str, Any]] = []
    for row in (feature, image):
        times = list(stages(row).values())
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": NAMES[row.domain],
                "y": [stage.label for stage in stages(row)],
                "x": times,
                "base": [sum(times[:i]) for i in range(len(times))],
                "marker": {"color": colour(row.domain)},
                "showlegend": False,
                "customdata": times,
                "hovertemplate": "%{y}: %{customdata:.1f} ms",
            }
        )
    order = [stage.label for stage in in_order({stage.name for row in (feature, image) for stage in stages(row)})]
    layout = {
        "barmode": "group",
        "xaxis": axis("ms since the picture file was opened", rangemode="tozero", tickformat=","),
        "yaxis": axis("", categoryorder="array", categoryarray=order[::-1]),
    }
    caption = "One bar per stage, starting where the last one ended. In the image domain, “heads” is the whole network."
    return Figure(identity, f"Where the time goes: {label(feature)}", caption, traces, layout, 90 + 44 * len(order))


def latency_figures(sweep: Sweep) -> list[Figure]:
    """Waterfalls of the clean condition and of one coded one, and latency against link rate."""
    found = timed_pairs(sweep)
    if not found:
        return []
    shown = found[:2]
    figures = [waterfall(*pair, f"waterfall-{i}") for i, pair in enumerate(shown)]
    rates = [10 ** (k / 10) for k in range(-10, 41)]
    traces = []
    for dash, pair in zip(("solid", "dot"), shown, strict=False):
        for row in pair:
            one = cost(row)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": f"{NAMES[row.domain]}, {label(row)}",
                    "x": rates,
                    "y": [(one.ms + one.bits / rate / 1000) / 1000 for rate in rates],
                    "line": {"color": colour(row.domain), "dash": dash, "width": 2},
                    "hovertemplate": "%{x:.3g} Mbit/s: %{y:.3g} s",
                }
            )
    layout = {
        "xaxis": axis("link rate, Mbit/s", type="log", dtick=1, exponentformat="none"),
        "yaxis": axis("seconds an image", type="log", dtick=1),
    }
    caption = "Computing plus transfer of one image, as measured. Where two lines of a kind cross is their break-even."
    return [*figures, Figure("latency", "Latency against link rate", caption, traces, layout)]


def coding_times_table(sweep: Sweep) -> Table | None:
    """Stages of every coded row, and the link rate from which features pay; None without coded rows that have times."""
    coded = {row.id for family in sweep.families if family.changes_bits for row in family.rows}
    rows = [
        row for row in sweep.rows if row.id in coded and any(one.coding and one.place == "edge" for one in stages(row))
    ]
    if not rows:
        return None
    coding = [stage for stage in STAGES if stage.coding]
    pixels = [row for row in sweep.rows if row.domain == "image" and (row.id in coded or row.clean)]
    lines = []
    for row in rows:
        cells = [sweep.names[row.id], row.domain, sweep.ap_text(row)]
        cells += [kilobytes(row), *(number(stages(row).get(stage), 0) for stage in coding)]
        cells += [number(spent(row, "edge", coding=False), 0), number(spent(row, "cloud", coding=False), 0)]
        anchor = _as_accurate(sweep, row, pixels) if row.domain == "feature" else None
        cells += [MISSING] * 2 if anchor is None else [label(anchor), str(break_even(cost(row), cost(anchor)))]
        lines.append(cells)
    columns = [Column("condition", number=False), Column("domain", number=False), Column("AP %"), Column("kB/image")]
    columns += [Column(stage.label, "coding, ms") for stage in coding]
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
        counted = of_row(found, row.id, row.domain)
        cells = [MISSING, MISSING] if counted is None else [number(one / 1e9, 1) for one in counted]
        lines.append([name, row.domain, *cells, number(spent(row, "edge"), 0), number(spent(row, "cloud"), 0)])
    columns = [Column("what is sent", number=False), Column("domain", number=False)]
    columns += [Column(title, "10⁹ multiply-adds") for title in ("edge", "cloud")]
    columns += [Column(title, "ms") for title in ("edge", "cloud")]
    notes = (
        "An image on average. Multiply-adds are those of the dense network and of reductions, by "
        "torch.utils.flop_counter and from the sizes of the matrices; encoders and decoders have none. They are the "
        "same on every machine, milliseconds are this one's, coding of the first such row included. Of a model that is "
        "none of torchvision's R-CNNs they are the first picture's.",
    )
    return Table("Cost that transfers", columns, lines, notes)
