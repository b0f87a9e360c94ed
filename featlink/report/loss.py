"""AP over packet loss: coded features and coded pixels at about the same total bits, each with its protections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.report.curves import NAMES, SYMBOLS, Figure, axis, colour, error_bars
from featlink.report.sweep import DOMAINS, Sweep, condition_of, unit_loss
from featlink.report.table import MISSING, Column, Table, kilobytes, number, signed, with_interval
from featlink.results import Row
from featlink.shared.conditions import registry
from featlink.shared.evaluation.confidence_intervals import interval

PREFIX = "loss."
"""Of the named rows; then comes the rate, whose rows have about the same total bits."""
_SIGNIFICANT = "95 % interval"


@dataclass(frozen=True)
class LossCurve:
    """What differs in its loss alone.

    Attributes:
        rate: name of the rows that it is compared with.
        burst: mean number of packets lost in a row; 1 where losses are independent.
        domain: of all rows.
        name: codec and protection.
        rows: by loss, 0..1.
    """

    rate: str
    burst: float
    domain: str
    name: str
    rows: dict[float, Row] = field(default_factory=dict)


def loss_curves(sweep: Sweep) -> list[LossCurve]:
    """The curves of a sweep's rows whose codec's packets are lost; a row without loss is on those of all bursts."""
    found = [(row, *_parts(row)) for row in sweep.rows if unit_loss(row) is not None]
    bursts = sorted({step.burst for _, step, _ in found if step.rate}) or [1.0]
    curves: dict[tuple[str, float, str, str], LossCurve] = {}
    for row, step, name in found:
        rate = row.id.removeprefix(PREFIX).split(".")[0] if row.id.startswith(PREFIX) else "all"
        for burst in [step.burst] if step.rate else bursts:
            key = (rate, burst, row.domain, name)
            curves.setdefault(key, LossCurve(*key)).rows[step.rate] = row
    return [one for one in curves.values() if len(one.rows) > 1]


def loss_blocks(sweep: Sweep) -> list[Figure | Table]:
    """A plot for each rate and burst, and a table of the best protections; none of a sweep without such losses."""
    curves = loss_curves(sweep)
    groups = dict.fromkeys((one.rate, one.burst) for one in curves)
    figures = [_figure(sweep, [one for one in curves if (one.rate, one.burst) == group]) for group in groups]
    return [*figures, _table(sweep, curves)] if curves else []


def loss_findings(sweep: Sweep) -> list[str]:
    """Which domain survives the link better, in a sentence for each rate and burst that has both."""
    sentences = []
    curves = loss_curves(sweep)
    for rate, burst in dict.fromkeys((one.rate, one.burst) for one in curves):
        group = [one for one in curves if (one.rate, one.burst) == (rate, burst)]
        better: dict[str, list[float]] = {domain: [] for domain in DOMAINS}
        losses = sorted({loss for one in group for loss in one.rows if loss})
        for loss in losses:
            pair = _best(sweep, group, loss)
            ends = _difference(sweep, *pair)[1] if len(pair) == len(DOMAINS) else None
            if ends is not None and (ends[0] > 0 or ends[1] < 0):
                better[DOMAINS[0] if ends[0] > 0 else DOMAINS[1]].append(loss)
        said = [f"{NAMES[domain]} at {_percents(of)}" for domain, of in better.items() if of]
        if len({one.domain for one in group}) == len(DOMAINS) and losses:
            what = (
                f"With {_bursts(burst)} losses at the rate {rate}" if rate != "all" else f"With {_bursts(burst)} losses"
            )
            told = (
                f"more AP is left, beyond the {_SIGNIFICANT}, of {', of '.join(said)}"
                if said
                else "neither domain is ahead beyond the " + _SIGNIFICANT
            )
            sentences.append(f"{what}, each with its best protection: {told}.")
    return sentences


def _parts(row: Row) -> tuple[PacketLoss, str]:
    """The loss, and what the row's condition is without it."""
    condition = condition_of(row)
    steps = registry.chain(condition)
    (loss,) = (step for step in steps if isinstance(step, PacketLoss))
    kept = loss.model_dump(
        include={"parity", "key_parity", "interleave", "retries", "mtu", "conceal", "key_request"},
        exclude_defaults=True,
    )
    protection = ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in kept.items()
    )
    chain = " | ".join(str(step.spec) for step in steps if step is not loss)
    return loss, f"{chain} ({protection})" if protection else chain


def _best(sweep: Sweep, curves: Iterable[LossCurve], loss: float) -> list[Row]:
    """Of each domain, the row of most AP at a loss."""
    rows = [(one.domain, one.rows[loss]) for one in curves if loss in one.rows]
    of_domains = [[row for domain, row in rows if domain == wanted] for wanted in DOMAINS]
    return [max(of, key=lambda row: sweep.ap(row) or 0) for of in of_domains if of]


def _difference(sweep: Sweep, feature: Row, image: Row) -> tuple[float, tuple[float, float] | None]:
    """AP of features less that of pixels, with its paired interval."""
    draws = [sweep.draws(row) for row in (feature, image)]
    value = (sweep.ap(feature) or 0) - (sweep.ap(image) or 0)
    ends = (
        interval(np.asarray(draws[0]) - np.asarray(draws[1]))
        if all(one is not None and len(one) for one in draws)
        else None
    )
    return value, ends


def _figure(sweep: Sweep, curves: Sequence[LossCurve]) -> Figure:
    traces = []
    symbols = {domain: cycle(SYMBOLS) for domain in DOMAINS}
    dashes = {domain: cycle(("solid", "dash", "dot", "dashdot", "longdash")) for domain in DOMAINS}
    for one in curves:
        points = sorted(one.rows.items())
        aps = [(sweep.ap(row) or 0, sweep.interval(row)) for _, row in points]
        size = np.mean([row.bits_per_image for _, row in points]) / 8000
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{NAMES[one.domain]}: {one.name}, {size:.1f} kB",
                "x": [100 * loss for loss, _ in points],
                "y": [100 * ap for ap, _ in aps],
                **error_bars(aps),
                "line": {"color": colour(one.domain), "width": 2, "dash": next(dashes[one.domain])},
                "marker": {"color": colour(one.domain), "size": 8, "symbol": next(symbols[one.domain])},
            }
        )
    first = curves[0]
    layout = {"xaxis": axis("packets lost %"), "yaxis": axis(f"AP {sweep.kind} %", rangemode="tozero")}
    rate = "" if first.rate == "all" else f", rate {first.rate}"
    caption = (
        "Bits are of all that crosses: bitstreams, headers of frame and packets, parity, what was sent again. "
        f"Bars: 95 % interval over {sweep.over}."
    )
    id = f"loss-{first.rate}-{first.burst:g}".replace(".", "_")
    return Figure(id, f"Accuracy over packet loss, {_bursts(first.burst)}{rate}", caption, traces, layout)


def _table(sweep: Sweep, curves: Sequence[LossCurve]) -> Table:
    columns = [Column("rate", number=False), Column("losses", number=False), Column("lost %")]
    columns += [
        Column(title, NAMES[domain], title in ("kB", "AP %"))
        for domain in DOMAINS
        for title in ("protected as", "kB", "AP %")
    ]
    columns.append(Column("features − image, AP"))
    lines = []
    for rate, burst in dict.fromkeys((one.rate, one.burst) for one in curves):
        group = [one for one in curves if (one.rate, one.burst) == (rate, burst)]
        for loss in sorted({loss for one in group for loss in one.rows}):
            best = {row.domain: row for row in _best(sweep, group, loss)}
            cells = []
            for domain in DOMAINS:
                row = best.get(domain)
                cells += [MISSING] * 3 if row is None else [_parts(row)[1], kilobytes(row), sweep.ap_text(row)]
            both = [best[domain] for domain in DOMAINS if domain in best]
            told = MISSING
            if len(both) == len(DOMAINS):
                value, ends = _difference(sweep, *both)
                told = with_interval(signed(100 * value), ends)
            lines.append([rate, _bursts(burst), number(100 * loss, 0), *cells, told])
    notes = (
        "Of each domain the row of most AP at this loss. The difference's interval is paired. The choice of the "
        "protection is made on the same pictures, in both domains alike.",
    )
    return Table("The best protection at each loss", columns, lines, notes)


def _bursts(burst: float) -> str:
    return "independent" if burst == 1 else f"bursts of {burst:g}"


def _percents(losses: Sequence[float]) -> str:
    return ", ".join(f"{100 * loss:g}" for loss in losses) + " %"
