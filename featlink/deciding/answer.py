"""The answer: a ranked list, the Pareto front, where the winner changes, and one plain sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from featlink.deciding.candidates import Candidate, candidates
from featlink.deciding.judge import Option, front, judge, ranked, too_close
from featlink.deciding.wish import Wish
from featlink.report.figure import NAMES
from featlink.report.latency import overlaps
from featlink.report.sweep import DOMAINS, Sweep
from featlink.report.table import number, percent, with_interval

RATES = tuple(float(10 ** (k / 20)) for k in range(-40, 81))
"""Link rates from 0.01 to 10,000 Mbit/s at which the winner is looked for."""
_HALVINGS = 30


@dataclass(frozen=True)
class Stretch:
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
class Decision:
    """What to send.

    Attributes:
        wish: the question.
        kind: whose AP: ``segm`` or ``bbox``.
        options: the best first.
        front: ids of rows on the Pareto front of AP and latency.
        rivals: ids of rows that the best cannot be told from.
        stretches: winners by link rate, at the same round trip and loss; none over a trace.
        overlapped: whether the sweep's times include waiting for one another.
    """

    wish: Wish
    kind: str
    options: list[Option]
    front: set[str]
    rivals: set[str]
    stretches: list[Stretch]
    overlapped: bool

    @property
    def best(self) -> Option | None:
        """The winner; None where nothing is good enough."""
        return self.options[0] if self.options and self.options[0].meets else None

    @property
    def rival(self) -> Option | None:
        """The best of the other domain."""
        if self.best is None:
            return None
        return next((one for one in self.options if _domain(one) != _domain(self.best)), None)

    @property
    def call(self) -> str:
        """``feature``, ``image``, ``too close to call`` between these, or ``nothing`` that is good enough."""
        if self.best is None:
            return "nothing"
        close = any(one.candidate.row.id in self.rivals and _domain(one) != _domain(self.best) for one in self.options)
        return "too close to call" if close else _domain(self.best)

    @property
    def sentence(self) -> str:
        """The answer in words."""
        where, goal = _where(self.wish), _goal(self.wish)
        if self.best is None:
            most = "".join(f"; the most accurate, {_what(one)}, has {_ap(one)}" for one in self.options[:1])
            return f"{where}, nothing in this sweep {goal}{most}."
        best, rival = self.best, self.rival
        sure = "" if best.surely else ", though its interval does not rule out that it falls short"
        told = f"{where}, send {_what(best)}: {_figures(best, self.wish)}{sure}."
        if rival is None:
            return f"{told} The sweep has nothing of the other domain to compare with."
        if self.call == "too close to call":
            close = next(
                one for one in self.options if one.candidate.row.id in self.rivals and _domain(one) != _domain(best)
            )
            return f"{told} Too close to call against {_what(close)}: {_figures(close, self.wish)}."
        other = f"The best way to send {NAMES[_domain(rival)]}, {rival.candidate.name}, "
        if not rival.meets:
            return f"{told} {other}does not suffice: {_figures(rival, self.wish)}."
        return f"{told} {other}gives {_figures(rival, self.wish)}."


def decide(
    sweep: Sweep, wish: Wish, edge_from: Sweep | None = None, cloud_from: Sweep | None = None, crossings: bool = True
) -> Decision:
    """Which of a sweep's conditions to send over a link.

    Args:
        sweep: a finished sweep with ``samples.npz``.
        wish: the link, the machines, and what is good enough.
        edge_from: a sweep of the same conditions on the edge's own machine, whose times count there.
        cloud_from: the same of the cloud.
        crossings: look for the link rates at which the winner changes.

    Raises:
        CommandError: the sweep has no samples or no times, or not the kind of AP that is asked for.
    """
    found = candidates(sweep, edge_from, cloud_from)
    options = ranked(judge(sweep, found, wish), wish)
    rivals = {one.candidate.row.id for one in options[1:] if options[0].meets and too_close(options[0], one, wish)}
    return Decision(
        wish,
        wish.kind or sweep.kind,
        options,
        front(options),
        rivals,
        _stretches(sweep, found, wish) if crossings and wish.route.trace is None else [],
        any(overlaps(one) for one in (sweep, edge_from, cloud_from) if one is not None),
    )


def _stretches(sweep: Sweep, found: list[Candidate], wish: Wish) -> list[Stretch]:
    """Winners over all rates; each border by bisection."""

    def winner(mbps: float) -> tuple[str, str]:
        there = replace(wish, route=wish.route.at(mbps))
        best = ranked(judge(sweep, found, there, certain=False), there)[0]
        return (_domain(best), best.candidate.name) if best.meets else ("", "nothing that is good enough")

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
    return [Stretch(low, high, *won) for (low, won), high in zip(starts, ends, strict=True)]


def _domain(option: Option) -> str:
    return option.candidate.row.domain


def _what(option: Option) -> str:
    name = option.candidate.name
    what = "features" if _domain(option) == DOMAINS[0] else "pixels"
    return f"{what} {'as they are' if name == 'clean' else 'by ' + name}"


def _ap(option: Option) -> str:
    return f"AP {with_interval(percent(option.ap), option.ap_interval)}"


def _figures(option: Option, wish: Wish) -> str:
    parts = f"edge {_ms(option.edge_ms)}, link {_ms(option.link_ms)}, cloud {_ms(option.cloud_ms)}"
    if option.hops_ms:
        parts += f", between services {_ms(option.hops_ms)}"
    late = "" if wish.deadline_ms is None else f", {percent(option.on_time, 0)} % of the images in time"
    size = option.candidate.row.bits_per_image / 8000
    return (
        f"{_ap(option)}{late}, {number(size, 2 if size < 10 else 0)} kB and {_ms(option.latency_ms)} ms an image "
        f"({parts}), {_rate(option.frames_per_second)} frames a second"
    )


def _where(wish: Wish) -> str:
    link = wish.route.link
    if wish.route.trace is not None:
        where = f"Over this trace of {number(wish.route.mbps, 2)} Mbit/s on average"
    elif link.rate_mbps is None:
        where = "Over a link without limit"
    else:
        where = f"Over {link.rate_mbps:,.4g} Mbit/s"
    more = [f"{link.rtt_ms:g} ms round trip"] if link.rtt_ms else []
    more += [f"{100 * link.loss:g} % loss"] if link.loss else []
    return where + (f" ({', '.join(more)})" if more else "")


def _goal(wish: Wish) -> str:
    if wish.floor is not None:
        least = f"reaches AP {percent(wish.floor)}"
    elif wish.keep is not None:
        least = f"keeps {percent(wish.keep, 0)} % of the clean AP"
    else:
        least = "finds anything"
    return least if wish.deadline_ms is None else f"{least} within {wish.deadline_ms:g} ms"


def _ms(value: float) -> str:
    return number(value, 0 if value >= 10 else 1)


def _rate(value: float) -> str:
    return "any number of" if value == float("inf") else f"{value:.3g}"
