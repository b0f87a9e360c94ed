"""A decision as tables."""

from __future__ import annotations

from featlink.deciding.answer import Decision, Stretch, decide
from featlink.deciding.candidates import candidates
from featlink.deciding.judge import TIMING_ERROR, Option
from featlink.deciding.wish import make_wish
from featlink.errors import CommandError
from featlink.report.figure import NAMES
from featlink.report.sweep import DOMAINS, Sweep
from featlink.report.table import MISSING, Column, Table, kilobytes, number, percent, with_interval

REPORT_RATES = (0.5, 5.0, 50.0, 1000.0)
"""Mbit/s of the links that a report answers for."""


def decision_table(decision: Decision, most: int | None = None) -> Table:
    """The ranked options.

    Args:
        decision: whose.
        most: lines at most; None for all.
    """
    late, hops = decision.wish.deadline_ms is not None, any(one.hops_ms for one in decision.options)
    counted = any(one.candidate.multiply_adds for one in decision.options)
    columns = [Column(title, number=False) for title in ("domain", "reduction", "codec", "strength")]
    columns += [Column("AP %"), Column("kept %"), *([Column("in time %")] if late else []), Column("kB")]
    columns += [Column(title, "ms an image") for title in ("all", "edge", "link", "cloud")]
    columns += [Column("hops", "ms an image")] if hops else []
    columns += [Column(title, "10⁹ multiply-adds") for title in ("edge", "cloud")] if counted else []
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
        cells += [
            f"{one.frames_per_second:.3g}",
            "●" if candidate.row.id in decision.front else "",
            _verdict(decision, one),
        ]
        lines.append(cells)
    return Table("What to send, the best first", columns, lines, _notes(decision))


def stretches_table(decision: Decision) -> Table | None:
    """Winners by link rate; None over a trace."""
    if not decision.stretches:
        return None
    columns = [Column("link rate", number=False), Column("domain", number=False), Column("send", number=False)]
    lines = [[_stretch(one), one.domain or MISSING, one.name] for one in decision.stretches]
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
    decisions = [decide(sweep, make_wish(rate=rate), crossings=rate == REPORT_RATES[0]) for rate in REPORT_RATES]
    columns = [Column("Mbit/s"), Column("call", number=False), Column("send", number=False), Column("AP %")]
    columns += [Column("kB"), Column("ms an image"), Column("frames/s")]
    lines = []
    for rate, decision in zip(REPORT_RATES, decisions, strict=True):
        best = decision.best
        cells = [f"{rate:g}", NAMES.get(decision.call, decision.call)]
        if best is None:
            lines.append([*cells, *[MISSING] * (len(columns) - 2)])
            continue
        cells += [f"{best.candidate.row.domain}: {best.candidate.name}"]
        cells += [with_interval(percent(best.ap), best.ap_interval), kilobytes(best.candidate.row)]
        lines.append([*cells, number(best.latency_ms, 0), f"{best.frames_per_second:.3g}"])
    caption = "The fastest way to keep 95 % of the clean AP, by link rate"
    crossing = stretches_table(decisions[0])
    answers = [decision.sentence for decision in decisions]
    return [*answers, Table(caption, columns, lines, _notes(decisions[0])), *([crossing] if crossing else [])]


def _verdict(decision: Decision, one: Option) -> str:
    row = one.candidate.row
    if one is decision.best:
        return "best" if one.surely else "best, floor too close to call"
    if row.id in decision.rivals:
        return "too close to call"
    if one.meets:
        return "" if one.surely else "floor too close to call"
    return "below the floor, too close to call" if one.maybe else "below the floor"


def _stretch(one: Stretch) -> str:
    if one.low == 0:
        return "any" if one.high == float("inf") else f"below {_rate(one.high)} Mbit/s"
    if one.high == float("inf"):
        return f"above {_rate(one.low)} Mbit/s"
    return f"{_rate(one.low)} to {_rate(one.high)} Mbit/s"


def _rate(mbps: float) -> str:
    return f"{mbps:,.0f}" if mbps >= 100 else f"{mbps:.3g}"


def _notes(decision: Decision) -> tuple[str, ...]:
    rule = (
        f"Two are too close to call where their latencies are within {percent(TIMING_ERROR, 0)} % or the interval of "
        "their difference holds 0"
        if decision.wish.deadline_ms is None
        else "Two are too close to call where the interval of their difference of AP holds 0"
    )
    notes = [
        f"AP ({decision.kind}) with its 95 % interval over images. {rule}. Front: no other is both as accurate and as "
        "fast. Frames a second: edge, link and cloud work at once, the slowest decides."
    ]
    if decision.overlapped:
        notes.append(
            "Stages of this sweep overlapped, so its times include waiting and are no basis for a decision: take a "
            "sweep with --threads 1 or --engine http."
        )
    return tuple(notes)
