"""What decisions about single pictures and about streams have in common: a winner, its rivals, and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from featlink.deciding.query import Query
from featlink.deciding.ranking import Candidate
from featlink.report.curves import NAMES
from featlink.report.sweep import DOMAINS
from featlink.report.table import MISSING, Column, Table, number, percent, with_interval
from featlink.shared.evaluation.confidence_intervals import Interval


class Ranked(Protocol):
    """An option as a choice sees it; the attributes are those of :class:`featlink.deciding.ranking.Option`."""

    @property
    def candidate(self) -> Candidate:
        """What is sent."""

    @property
    def ap(self) -> float:
        """In 0..1."""

    @property
    def ap_interval(self) -> Interval | None:
        """Of it."""

    @property
    def meets(self) -> bool:
        """Whether it is good enough."""

    @property
    def surely(self) -> bool:
        """Whether its interval says so too."""

    @property
    def maybe(self) -> bool:
        """Whether its interval leaves that open."""


RankedT = TypeVar("RankedT", bound=Ranked)


@dataclass(frozen=True, eq=False)
class Choice(Generic[RankedT]):
    """What to send.

    Attributes:
        query: the question.
        kind: whose AP.
        options: the best first.
        front: ids of rows on the Pareto front.
        rivals: ids of rows that the best cannot be answer from.
        overlapped: whether the sweep's times include waiting for one another.
    """

    query: Query
    kind: str
    options: list[RankedT]
    front: set[str]
    rivals: set[str]
    overlapped: bool

    @property
    def best(self) -> RankedT | None:
        """The winner; None where nothing is good enough."""
        return self.options[0] if self.options and self.options[0].meets else None

    @property
    def rival(self) -> RankedT | None:
        """The best of the other domain."""
        if self.best is None:
            return None
        return next((one for one in self.options if domain(one) != domain(self.best)), None)

    @property
    def call(self) -> str:
        """``feature``, ``image``, ``too close to call`` between these, or ``nothing`` that is good enough."""
        if self.best is None:
            return "nothing"
        close = any(one.candidate.row.id in self.rivals and domain(one) != domain(self.best) for one in self.options)
        return "too close to call" if close else domain(self.best)

    @property
    def sentence(self) -> str:
        """The answer in words."""
        where, goal = self.where(), _goal(self.query)
        if self.best is None:
            most = "".join(f"; {self.nearest(one)}" for one in self.options[:1])
            return f"{where}, nothing in this sweep {goal}{most}."
        best, rival = self.best, self.rival
        sure = "" if best.surely else ", though its interval does not rule out that it falls short"
        answer = f"{where}, send {what(best)}: {self.figures(best)}{sure}."
        if rival is None:
            return f"{answer} The sweep has nothing of the other domain to compare with."
        if self.call == "too close to call":
            close = next(
                one for one in self.options if one.candidate.row.id in self.rivals and domain(one) != domain(best)
            )
            return f"{answer} Too close to call against {what(close)}: {self.figures(close)}."
        other = f"The best way to send {NAMES[domain(rival)]}, {rival.candidate.name}, "
        if not rival.meets:
            return f"{answer} {other}does not suffice: {self.figures(rival)}."
        return f"{answer} {other}gives {self.figures(rival)}."

    def where(self) -> str:
        """The link in words, as a sentence begins."""
        link = self.query.route.link
        if self.query.route.trace is not None:
            where = f"Over this trace of {number(self.query.route.mbps, 2)} Mbit/s on average"
        elif link.rate_mbps is None:
            where = "Over a link without limit"
        else:
            where = f"Over {link.rate_mbps:,.4g} Mbit/s"
        more = [f"{link.rtt_ms:g} ms round trip"] if link.rtt_ms else []
        more += [f"{100 * link.loss:g} % loss"] if link.loss else []
        if self.query.erased is not None:
            bursts = f", in bursts of {self.query.burst:g}" if self.query.burst > 1 else ""
            more.append(f"{100 * self.query.erased:g} % of packets lost for good{bursts}")
        return where + (f" ({', '.join(more)})" if more else "")

    def figures(self, option: RankedT) -> str:
        """An option's figures in words."""
        raise NotImplementedError

    def nearest(self, option: RankedT) -> str:
        """In words, what the first option reaches where nothing is good enough."""
        return f"the most accurate, {what(option)}, has {ap_text(option)}"

    def verdict(self, one: RankedT) -> str:
        """What there is to say of an option in a table."""
        row = one.candidate.row
        if one is self.best:
            return "best" if one.surely else "best, floor too close to call"
        if row.id in self.rivals:
            return "too close to call"
        if one.meets:
            return "" if one.surely else "floor too close to call"
        return "below the floor, too close to call" if one.maybe else "below the floor"

    def notes(self, rule: str) -> tuple[str, ...]:
        """Remarks below a table: a rule, and that times are unreliable if they are."""
        if not self.overlapped:
            return (rule,)
        return (
            rule,
            "Stages of this sweep overlapped, so its times include waiting and are no basis for a decision: take a "
            "sweep with --threads 1 or --engine http.",
        )


def winners_table(
    caption: str,
    winners: Sequence[tuple[float, Choice[RankedT]]],
    columns: Sequence[Column],
    figures: Callable[[RankedT], list[str]],
    notes: tuple[str, ...],
) -> Table:
    """What wins at some link rates.

    Args:
        caption: of the table.
        winners: link rates in Mbit/s, and what to send at each.
        columns: behind those of the rate, the call, what is sent and its AP.
        figures: the best option's cells in these columns.
        notes: below the table.
    """
    heads = [Column("Mbit/s"), Column("call", number=False), Column("send", number=False), Column("AP %"), *columns]
    lines = []
    for rate, choice in winners:
        cells, best = [f"{rate:g}", NAMES.get(choice.call, choice.call)], choice.best
        if best is None:
            lines.append([*cells, *[MISSING] * (len(heads) - 2)])
            continue
        cells += [f"{domain(best)}: {best.candidate.name}", with_interval(percent(best.ap), best.ap_interval)]
        lines.append([*cells, *figures(best)])
    return Table(caption, heads, lines, notes)


def domain(option: Ranked) -> str:
    """``feature`` or ``image``."""
    return option.candidate.row.domain


def what(option: Ranked) -> str:
    """What is sent, in words."""
    name = option.candidate.name
    sent = "features" if domain(option) == DOMAINS[0] else "pixels"
    return f"{sent} {'as they are' if name == 'clean' else 'by ' + name}"


def ap_text(option: Ranked) -> str:
    """``AP`` in percent, with its interval."""
    return f"AP {with_interval(percent(option.ap), option.ap_interval)}"


def ms(value: float) -> str:
    """Milliseconds, with a digit more where they are few."""
    return number(value, 0 if value >= 10 else 1)


def _goal(query: Query) -> str:
    if query.floor is not None:
        least = f"reaches AP {percent(query.floor)}"
    elif query.keep is not None:
        least = f"keeps {percent(query.keep, 0)} % of the clean AP"
    else:
        least = "finds anything"
    return least if query.deadline_ms is None else f"{least} within {query.deadline_ms:g} ms"
