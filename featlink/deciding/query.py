"""The query of a decision: the link (a constant rate or a trace), the machines' speeds, and the required AP."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from featlink.channel.link import Link, LinkQueue, Trace
from featlink.channel.randomness import stream
from featlink.deciding.question import DEFAULT_KEEP, UNDER_WAY, Policy, Question
from featlink.errors import CommandError
from featlink.shared.evaluation.coco_metrics import Floats


@dataclass(frozen=True, eq=False)
class Query:
    """A question to a sweep.

    Attributes:
        route: the link.
        edge_speed: how many times as fast the edge is as the machine that was measured.
        cloud_speed: the same of the cloud.
        floor: least AP in 0..1; None for none.
        keep: least share of the domain's clean AP; None for none.
        deadline_ms: an image whose answer comes later counts as not detected; None for none.
        kind: whose AP, as the sweep names it; None for its leading one.
        fps: of a camera whose stream it is about, in frames a second; None of single pictures.
        camera: what it does when it falls behind.
        under_way: frames without an answer that a camera of the ``newest`` picture allows.
        erased: share of packets that are lost for good; None where lost ones are sent again.
        burst: mean number of packets lost in a row, of those.
        leak_at_most: largest PSNR, in dB, that the strongest known attacker may recover a picture with; None for any.
    """

    route: Route
    edge_speed: float = 1.0
    cloud_speed: float = 1.0
    floor: float | None = None
    keep: float | None = None
    deadline_ms: float | None = None
    kind: str | None = None
    fps: float | None = None
    camera: Policy = "every"
    under_way: int = UNDER_WAY
    erased: float | None = None
    burst: float = 1.0
    leak_at_most: float | None = None


def make_query(**given: Any) -> Query:
    """Check a question.

    Args:
        **given: fields of :class:`~featlink.deciding.question.Question`.

    Raises:
        CommandError: something is unknown or out of its range, or there is no link, or two.
    """
    try:
        asked = Question(**given)
        again = 0.0 if asked.erase else asked.loss
        link = Link(rate_mbps=asked.rate, rtt_ms=asked.rtt, jitter_ms=asked.jitter, loss=again)
    except ValidationError as error:
        first = error.errors()[0]
        place = f"{first['loc'][0]}: " if first["loc"] else ""
        raise CommandError(place + first["msg"].removeprefix("Value error, ")) from None
    keep = asked.keep
    if asked.floor is None and keep is None and asked.deadline is None:
        keep = 100 * DEFAULT_KEEP
    return Query(
        Route(link, None if asked.trace is None else read_trace(asked.trace)),
        asked.edge_speed,
        asked.cloud_speed,
        None if asked.floor is None else asked.floor / 100,
        None if keep is None else keep / 100,
        asked.deadline,
        asked.kind,
        asked.fps,
        asked.camera,
        asked.under_way,
        asked.loss if asked.erase else None,
        asked.burst,
        asked.leak_at_most,
    )


class Transfers(NamedTuple):
    """Of each image, (N,): the delay in ms, and the bits that are sent, those of lost packets again included."""

    delay_ms: Floats
    bits: Floats


_STARTS = 64
"""Moments of a trace that an average is taken over, for each image."""
_MOST_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class Route:
    """The link of a decision.

    Attributes:
        link: its rate, round trip, jitter and loss; lost packets are sent again.
        trace: the rate over time, which takes the place of the link's.
    """

    link: Link
    trace: Trace | None = None

    @property
    def mbps(self) -> float:
        """10⁶ bits per second, of a trace on average; infinite without a limit."""
        if self.trace is not None:
            return self.trace.mean_mbps
        return np.inf if self.link.rate_mbps is None else self.link.rate_mbps

    def at(self, mbps: float) -> Route:
        """The same link at a steady rate."""
        return replace(self, link=self.link.model_copy(update={"rate_mbps": mbps}), trace=None)

    def expected_ms(self, bits: npt.ArrayLike) -> Floats:
        """Mean time over losses, jitter and, of a trace, the moments at which an image may come.

        Args:
            bits: (N,) of each image.
        """
        packets = np.ceil(np.asarray(bits, np.float64) / (8 * self.link.mtu))
        waiting = self.link.rtt_ms / 2 + self.link.rtt_ms * _rounds(packets, self.link.loss)
        return waiting + self.serialise_ms(self.expected_bits(bits))

    def again_ms(self, bits: npt.ArrayLike, loss: float, retries: int) -> Floats:
        """Mean time until what is lost of (N,) bits is there or given up, where it is sent again so often at most.

        As if there were no parity, which saves some of it.
        """
        packets = np.ceil(np.asarray(bits, np.float64) / (8 * self.link.mtu))
        return self.link.rtt_ms * np.minimum(_rounds(packets, loss), retries)

    def expected_bits(self, bits: npt.ArrayLike) -> Floats:
        """Mean of what is sent for (N,) bits, lost packets again included."""
        sizes, packet, loss = np.asarray(bits, np.float64), 8 * self.link.mtu, self.link.loss
        return sizes + np.ceil(sizes / packet) * packet * loss / (1 - loss)

    def queue(self) -> LinkQueue:
        """An empty queue before this link; the trace begins with its clock."""
        return LinkQueue(self.link, rates=self.trace)

    def serialise_ms(self, bits: npt.ArrayLike) -> Floats:
        """Mean time that the link itself is busy with bits, without round trips."""
        sizes = np.asarray(bits, np.float64)
        if self.trace is None:
            return sizes / (1e3 * self.mbps)
        starts = np.arange(_STARTS) / _STARTS * self.trace.duration
        busy: Floats = np.mean([self.trace.deliver_ms(np.full_like(sizes, start), sizes) for start in starts], axis=0)
        return busy

    def draw(self, bits: npt.ArrayLike, images: Sequence[int]) -> Transfers:
        """Draw each image's transfer, by the law that the channel draws from; it is the same at any rate.

        Args:
            bits: (N,) of each image.
            images: (N,) their ids.
        """
        drawn = [
            self.link.draw(int(size), stream(self.link.seed, "link", image, ""))
            for size, image in zip(np.asarray(bits, np.int64), images, strict=True)
        ]
        return Transfers(np.array([one.delay_ms for one in drawn]), np.array([float(one.bits) for one in drawn]))

    def delivered_ms(self, drawn: Transfers) -> Floats:
        """One time for each image, from what was drawn. Over a trace, images come at moments spread over it."""
        if self.trace is None:
            return drawn.delay_ms + drawn.bits / (1e3 * self.mbps)
        count = len(drawn.bits)
        starts = (np.arange(count) + 0.5) / max(1, count) * self.trace.duration
        return drawn.delay_ms + self.trace.deliver_ms(starts, drawn.bits)


def _rounds(packets: Floats, loss: float) -> Floats:
    """Expected rounds of retransmission: of n packets, the one that is lost most often decides.

    A packet needs more than k rounds with probability loss^(k+1), so the mean is Σ 1 − (1 − loss^k)^n from k = 1 on.
    """
    total = np.zeros_like(packets)
    chance = loss
    for _ in range(_MOST_ROUNDS):
        term = 1 - (1 - chance) ** packets
        total += term
        chance *= loss
        if not term.size or term.max() < 1e-9:
            break
    return total


_MAHIMAHI_BITS = 8 * 1500
"""What each line of a Mahimahi trace delivers."""
_MOST_LINES = 10_000_000


def read_trace(path: Path) -> Trace:
    """Read a trace.

    Args:
        path: a CSV file whose first line names ``seconds`` and ``mbps`` (the rate from that time on; the last line ends
            the trace), or a Mahimahi file: a line per 1,500 bytes with the millisecond in which they can be delivered.

    Raises:
        CommandError: it is neither, or delivers nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not 1 <= len(lines) <= _MOST_LINES:
        raise CommandError(f"{path} has {len(lines)} lines, not 1 to {_MOST_LINES:,}")
    trace = _mahimahi(path, lines) if lines[0].isdecimal() else _csv(path, lines)
    if not (trace.duration > 0 and trace.megabits[-1] > 0):
        raise CommandError(f"{path} delivers nothing")
    return trace


def _mahimahi(path: Path, lines: list[str]) -> Trace:
    if not all(line.isdecimal() and len(line) <= 12 for line in lines):
        raise CommandError(f"{path} begins like a Mahimahi trace, but not every line is a whole number of milliseconds")
    moments = np.array(lines, np.int64)
    if (np.diff(moments) < 0).any():
        raise CommandError(f"{path} goes back in time")
    when, count = np.unique(moments, return_counts=True)
    when = np.maximum(when, 1)  # a packet of millisecond m has arrived when m ends
    edges = np.unique(np.concatenate([[0], when - 1, when]))
    packets = np.zeros(len(edges))
    np.add.at(packets, np.searchsorted(edges, when), count)
    return Trace(edges / 1e3, packets.cumsum() * _MAHIMAHI_BITS / 1e6)


def _csv(path: Path, lines: list[str]) -> Trace:
    heading, *rows = [[cell.strip().lower() for cell in line] for line in csv.reader(lines)]
    if any(heading.count(name) != 1 for name in ("seconds", "mbps")):
        raise CommandError(f"{path} is neither a CSV file with the columns seconds and mbps nor a Mahimahi trace")
    places = heading.index("seconds"), heading.index("mbps")
    try:
        table = np.array([[float(row[place]) for place in places] for row in rows]).reshape(-1, 2)
    except (ValueError, IndexError):
        raise CommandError(f"{path}: seconds and mbps are not numbers in every line") from None
    seconds, rates = table.T
    if len(seconds) < 2 or seconds[0] != 0 or (np.diff(seconds) <= 0).any():
        raise CommandError(f"{path} needs two lines or more, with seconds rising from 0")
    if not (np.isfinite(table).all() and (rates >= 0).all() and math.isfinite(seconds[-1])):
        raise CommandError(f"{path} has a rate below 0, or a number that is not finite")
    return Trace.of_rates(seconds, rates)
