"""The decision: ranked candidates, the Pareto front, the rates at which the winner changes, and a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from featlink.deciding.choice import Choice, ap_text, domain, ms, winners_table
from featlink.deciding.query import Query, Transfers, make_query
from featlink.deciding.ranking import (
    TIMING_ERROR,
    Candidate,
    Option,
    candidates,
    draw_transfers,
    evaluate,
    front,
    ranked,
    too_close,
)
from featlink.errors import CommandError
from featlink.report.sweep import DOMAINS, Sweep
from featlink.report.table import MISSING, Column, Table, kilobytes, mbps, number, percent, with_interval
from featlink.report.timing import overlaps

RATES = tuple(float(10 ** (k / 20)) for k in range(-40, 81))
"""Link rates from 0.01 to 10,000 Mbit/s at which the winner is looked for."""
_HALVINGS = 30


@dataclass(frozen=True)
class RateInterval:
    """Link rates with one winner.

    Attributes:
        low: Mbit/s from which it wins.
        high: up to which.
        domain: of the winner; empty where nothing is good enough.
        name: of the winner.
    """

    low: float
    high: float
    domain: str
    name: str


@dataclass(frozen=True, eq=False)
class Decision(Choice[Option]):
    """What to send of single pictures.

    Attributes:
        rate_intervals: winners by link rate, at the same round trip and loss; none over a trace.
        of_clips: whether the pictures are frames of clips.
    """

    rate_intervals: list[RateInterval]
    of_clips: bool

    @property
    def scope(self) -> str:
        """What the answer is about, a sentence."""
        if self.of_clips:
            return (
                "This takes frames of clips for single pictures, each with its bits in the clip; for the stream, give "
                "the camera's frames a second (fps)."
            )
        return "This is about single pictures; for a camera's stream, sweep clips and give its frames a second (fps)."

    def figures(self, option: Option) -> str:
        """See the base class."""
        parts = f"edge {ms(option.edge_ms)}, link {ms(option.link_ms)}, cloud {ms(option.cloud_ms)}"
        if option.hops_ms:
            parts += f", between services {ms(option.hops_ms)}"
        late = "" if self.query.deadline_ms is None else f", {percent(option.on_time, 0)} % of the images in time"
        size = option.candidate.row.bits_per_image / 8000
        return (
            f"{ap_text(option)}{late}, {number(size, 2 if size < 10 else 0)} kB and {ms(option.latency_ms)} ms an "
            f"image ({parts}), {_rate(option.frames_per_second)} frames a second"
        )


def decide(
    sweep: Sweep, query: Query, edge_from: Sweep | None = None, cloud_from: Sweep | None = None, crossings: bool = True
) -> Decision:
    """Which of a sweep's conditions to send over a link.

    Args:
        sweep: a finished sweep with ``samples.npz``.
        query: the link, the machines, and what is good enough.
        edge_from: a sweep of the same conditions on the edge's own machine, whose times count there.
        cloud_from: the same of the cloud.
        crossings: look for the link rates at which the winner changes.

    Raises:
        CommandError: the sweep has no samples or no times, or not the kind of AP that is asked for.
    """
    if query.kind not in (None, *sweep.kinds):
        raise CommandError(f"this sweep has the AP of {' and '.join(sweep.kinds)}, not of {query.kind!r}")
    found = candidates(sweep, edge_from, cloud_from, query)
    drawn = draw_transfers(sweep, found, query)
    options = ranked(evaluate(sweep, found, drawn, query), query)
    rivals = {one.candidate.row.id for one in options[1:] if options[0].meets and too_close(options[0], one, query)}
    return Decision(
        query,
        query.kind or sweep.kind,
        options,
        front(options),
        rivals,
        any(overlaps(one) for one in (sweep, edge_from, cloud_from) if one is not None),
        _rate_intervals(sweep, found, drawn, query) if crossings and query.route.trace is None else [],
        sweep.sequences,
    )


def _rate_intervals(
    sweep: Sweep, found: list[Candidate], drawn: list[Transfers | None], query: Query
) -> list[RateInterval]:
    """Winners over all rates; each border by bisection."""

    def winner(rate: float) -> tuple[str, str]:
        there = replace(query, route=query.route.at(rate))
        best = ranked(evaluate(sweep, found, drawn, there, certain=False), there)[0]
        return (domain(best), best.candidate.name) if best.meets else ("", "nothing that is good enough")

    winners = [winner(rate) for rate in RATES]
    borders = []
    for (low, first), (high, second) in pairwise(zip(RATES, winners, strict=True)):
        if first == second:
            continue
        for _ in range(_HALVINGS):
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if winner(middle) == first else (low, middle)
        borders.append((high, second))
    starts = [(0.0, winners[0]), *borders]
    ends = [start for start, _ in starts[1:]] + [float("inf")]
    return [RateInterval(low, high, *won) for (low, won), high in zip(starts, ends, strict=True)]


def _rate(value: float) -> str:
    return "any number of" if value == float("inf") else f"{value:.3g}"


def to_dict(decision: Decision) -> dict[str, Any]:
    """Dicts, lists, numbers and text.

    Returns:
        ``sentence``; ``scope``, what the answer is about; ``call``: ``feature``, ``image``, ``too close to call`` or
        ``nothing``; ``best``, the id of the winning row; ``options``, the best first, with AP and shares in 0..1 and
        times in ms; ``stretches``, winners by link rate in Mbit/s, whose ends are None where there is none;
        ``overlapped``.
    """
    return {
        "sentence": decision.sentence,
        "scope": decision.scope,
        "call": decision.call,
        "best": None if decision.best is None else decision.best.candidate.row.id,
        "kind": decision.kind,
        "options": [_option(decision, one) for one in decision.options],
        "stretches": [
            {"from_mbps": one.low or None, "to_mbps": _finite(one.high), "domain": one.domain or None, "name": one.name}
            for one in decision.rate_intervals
        ],
        "overlapped": decision.overlapped,
    }


def _option(decision: Decision, one: Option) -> dict[str, Any]:
    candidate = one.candidate
    return {
        "id": candidate.row.id,
        "domain": candidate.row.domain,
        "reduction": candidate.reduction,
        "codec": candidate.codec,
        "strength": candidate.strength,
        "leak_db": candidate.leak,
        "ap": one.ap,
        "ap_interval": one.ap_interval,
        "kept": one.kept,
        "on_time": one.on_time,
        "kB": candidate.row.bits_per_image / 8000,
        "ms": one.latency_ms,
        "ms_interval": one.latency,
        "edge_ms": one.edge_ms,
        "link_ms": one.link_ms,
        "cloud_ms": one.cloud_ms,
        "hops_ms": one.hops_ms,
        "edge_multiply_adds": candidate.multiply_adds and candidate.multiply_adds[0],
        "cloud_multiply_adds": candidate.multiply_adds and candidate.multiply_adds[1],
        "frames_per_second": _finite(one.frames_per_second),
        "good_enough": one.meets,
        "surely_good_enough": one.surely,
        "on_front": candidate.row.id in decision.front,
        "too_close_to_call": candidate.row.id in decision.rivals,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


REPORT_RATES = (0.5, 5.0, 50.0, 1000.0)
"""Mbit/s of the links that a report answers for."""


def decision_table(decision: Decision, most: int | None = None) -> Table:
    """The ranked options.

    Args:
        decision: whose.
        most: lines at most; None for all.
    """
    late, hops = decision.query.deadline_ms is not None, any(one.hops_ms for one in decision.options)
    counted = any(one.candidate.multiply_adds for one in decision.options)
    leaking = any(one.candidate.leak is not None for one in decision.options)
    columns = [Column(title, number=False) for title in ("domain", "reduction", "codec", "strength")]
    columns += [Column("AP %"), Column("kept %"), *([Column("in time %")] if late else []), Column("kB")]
    columns += [Column(title, "ms an image") for title in ("all", "edge", "link", "cloud")]
    columns += [Column("hops", "ms an image")] if hops else []
    columns += [Column(title, "10⁹ multiply-adds") for title in ("edge", "cloud")] if counted else []
    columns += [Column("leak dB")] if leaking else []
    columns += [Column("frames/s"), Column("front", number=False), Column("verdict", number=False)]
    lines = []
    for one in decision.options[:most]:
        candidate = one.candidate
        cells = [candidate.row.domain, candidate.reduction or MISSING, candidate.codec or "as it is"]
        cells += [candidate.strength or MISSING, with_interval(percent(one.ap), one.ap_interval), percent(one.kept)]
        cells += [percent(one.on_time, 0)] if late else []
        cells += [kilobytes(candidate.row)]
        cells += [number(ms, 0) for ms in (one.latency_ms, one.edge_ms, one.link_ms, one.cloud_ms)]
        cells += [number(one.hops_ms, 0)] if hops else []
        if counted:
            cells += [number(each / 1e9, 1) for each in candidate.multiply_adds or ()] or [MISSING, MISSING]
        cells += [number(candidate.leak, 1)] if leaking else []
        cells += [
            f"{one.frames_per_second:.3g}",
            "●" if candidate.row.id in decision.front else "",
            decision.verdict(one),
        ]
        lines.append(cells)
    return Table("What to send, the best first", columns, lines, _notes(decision))


def rate_intervals_table(decision: Decision) -> Table | None:
    """Winners by link rate; None over a trace."""
    if not decision.rate_intervals:
        return None
    columns = [Column("link rate", number=False), Column("domain", number=False), Column("send", number=False)]
    lines = [[_stretch(one), one.domain or MISSING, one.name] for one in decision.rate_intervals]
    note = "At the same round trip and loss. Near a border the two winners are too close to call."
    return Table("Where the winner changes", columns, lines, (note,))


def decision_blocks(sweep: Sweep) -> list[Table | str]:
    """The report's answer at some link rates; a sentence where the sweep cannot give one."""
    try:
        found = candidates(sweep)
    except CommandError:
        return []
    if len({one.row.domain for one in found}) < len(DOMAINS):
        return ["This sweep has not something to choose in both domains."]
    decisions = [decide(sweep, make_query(rate=rate), crossings=rate == REPORT_RATES[0]) for rate in REPORT_RATES]
    winners = winners_table(
        "The fastest way to keep 95 % of the clean AP, by link rate",
        list(zip(REPORT_RATES, decisions, strict=True)),
        [Column("kB"), Column("ms an image"), Column("frames/s")],
        lambda best: [kilobytes(best.candidate.row), number(best.latency_ms, 0), f"{best.frames_per_second:.3g}"],
        _notes(decisions[0]),
    )
    crossing = rate_intervals_table(decisions[0])
    answers = [decision.sentence for decision in decisions]
    return [*answers, winners, *([crossing] if crossing else [])]


def _stretch(one: RateInterval) -> str:
    if one.low == 0:
        return "any" if one.high == float("inf") else f"below {mbps(one.high)} Mbit/s"
    if one.high == float("inf"):
        return f"above {mbps(one.low)} Mbit/s"
    return f"{mbps(one.low)} to {mbps(one.high)} Mbit/s"


def _notes(decision: Decision) -> tuple[str, ...]:
    rule = (
        f"Two are too close to call where their latencies are within {percent(TIMING_ERROR, 0)} % or the interval of "
        "their difference holds 0"
        if decision.query.deadline_ms is None
        else "Two are too close to call where the interval of their difference of AP holds 0"
    )
    return decision.notes(
        f"AP ({decision.kind}) with its 95 % interval over images. {rule}. Front: no other is both as accurate and as "
        "fast. Frames a second: edge, link and cloud work at once, the slowest decides."
    )
