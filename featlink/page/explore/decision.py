"""Which to send over a link: the fastest way to a wanted accuracy, in each domain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from featlink.report.latency import cost
from featlink.report.sweep import DOMAINS, Sweep, label
from featlink.results import Row


@dataclass(frozen=True)
class Setting:
    """A link and two machines.

    Attributes:
        mbps: 10⁶ bits a second.
        rtt_ms: round-trip time; a picture pays half of it, on its way to the cloud.
        edge, cloud: how many times as fast as the machine that was measured.
        keep: share of the clean AP that must be kept, 0..1.
    """

    mbps: float = 20.0
    rtt_ms: float = 20.0
    edge: float = 1.0
    cloud: float = 1.0
    keep: float = 0.9


@dataclass(frozen=True)
class Way:
    """A condition over a link.

    Attributes:
        row: the condition.
        edge_ms, link_ms, cloud_ms: where its time goes.
    """

    row: Row
    edge_ms: float
    link_ms: float
    cloud_ms: float

    @property
    def ms(self) -> float:
        """Time of one picture."""
        return self.edge_ms + self.link_ms + self.cloud_ms


def way(row: Row, setting: Setting) -> Way:
    """A row's time under a setting."""
    edge = cost(row, inf).ms
    cloud = cost(row).ms - edge
    link = row.bits_per_image / setting.mbps / 1e3 + setting.rtt_ms / 2
    return Way(row, edge / setting.edge, link, cloud / setting.cloud)


def fastest(sweep: Sweep, setting: Setting) -> dict[str, Way]:
    """Of each domain that has one, the fastest condition that keeps enough of the clean AP."""
    found: dict[str, Way] = {}
    for domain in DOMAINS:
        ways = [way(row, setting) for row in _good(sweep, domain, setting.keep)]
        if ways:
            found[domain] = min(ways, key=lambda one: one.ms)
    return found


def _good(sweep: Sweep, domain: str, keep: float) -> Iterable[Row]:
    for row in sweep.rows:
        kept = sweep.retention(row)
        if row.domain == domain and row.timings and kept is not None and kept >= keep:
            yield row


def sentence(found: dict[str, Way]) -> str:
    """The winner and its margin, in words."""
    names = {"feature": "features", "image": "pixels"}
    if not found:
        return "No condition of this sweep keeps so much of the clean AP."
    if len(found) == 1:
        [(domain, one)] = found.items()
        return f"Send {names[domain]}, {label(one.row)}: the other domain keeps too little at every condition."
    (winner, first), (_, second) = sorted(found.items(), key=lambda item: item[1].ms)
    saved = second.ms - first.ms
    return (
        f"Send {names[winner]}, {label(first.row)}: {first.ms:,.0f} ms a picture, {saved:,.0f} ms "
        f"({100 * saved / second.ms:.0f} %) less than {names['image' if winner == 'feature' else 'feature']}, "
        f"{label(second.row)}."
    )
