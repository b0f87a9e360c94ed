"""Simulate the link: a frame's transfer time by rate, round trip, jitter and lost packets, and the queue before it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from featlink.channel.distortions.packet_loss import Concealment, PacketLoss
from featlink.shared.conditions.language import validation_line
from featlink.shared.errors import FeatlinkError, InvalidLinkError

Floats = npt.NDArray[np.float64]
_HOUR_MS = 3_600_000
_DAY_S = 86_400
_MOST_ROUNDS, _SHORTEST_MS = 16, 1e-3
"""How often something is sent again at most, and a round trip that is shorter than all."""
_ROUNDING = 1e-9
"""Mbit, less than a bit: sums that are equal but for rounding are equal."""


class LinkError(FeatlinkError):
    """A frame that the link as it is set cannot carry in the time there is."""

    status = 422
    title = "Link too slow"


@dataclass(frozen=True)
class Transfer:
    """A frame's way over the link.

    Attributes:
        ms: from the first bit leaving to the last arriving.
        bits: what was sent, packets sent again included.
    """

    ms: float
    bits: int


class Sending(NamedTuple):
    """What chance makes of a frame: its delay in ms apart from the rate, and the bits sent, lost packets' again too."""

    delay_ms: float
    bits: int


@dataclass(frozen=True, eq=False)
class Trace:
    """A rate that changes from time to time, and begins anew when it ends.

    Attributes:
        seconds: (K + 1,), rising from 0: when each stretch begins, and the end.
        megabits: (K + 1,), never falling from 0: what has been delivered by then.
    """

    seconds: Floats
    megabits: Floats

    @classmethod
    def of_rates(cls, seconds: npt.ArrayLike, mbps: npt.ArrayLike) -> Trace:
        """The trace of rates, each from its second on; the last second ends it.

        Args:
            seconds: (K + 1,), rising from 0.
            mbps: (K + 1,), the last without meaning.
        """
        moments, rates = np.asarray(seconds, np.float64), np.asarray(mbps, np.float64)
        return cls(moments, np.concatenate([[0.0], np.cumsum(np.diff(moments) * rates[:-1])]))

    @property
    def duration(self) -> float:
        """Seconds until it begins anew."""
        return float(self.seconds[-1])

    @property
    def mean_mbps(self) -> float:
        """10⁶ bits per second on average."""
        return float(self.megabits[-1] / self.seconds[-1])

    def deliver_ms(self, start_s: npt.ArrayLike, bits: npt.ArrayLike) -> Floats:
        """How long bits take from a moment on.

        Args:
            start_s: seconds since the trace began, any number.
            bits: to be sent, of the same shape.

        Example:
            >>> one_then_three = Trace(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 4.0]))
            >>> one_then_three.deliver_ms([0.0, 0.5, 1.5], [1e6, 2e6, 2e6]).tolist()
            [1000.0, 1000.0, 1000.0]
        """
        start = np.mod(np.asarray(start_s, np.float64), self.duration)
        begun = np.interp(start, self.seconds, self.megabits)
        rounds, rest = np.divmod(begun + np.asarray(bits, np.float64) / 1e6, self.megabits[-1])
        # Where nothing is delivered for a while, what counts is when the last bit arrived, not the end of the gap.
        last_bit = self.seconds[np.searchsorted(self.megabits, self.megabits[-1], side="left")]
        whole = np.where(rounds > 0, last_bit - self.duration, start)
        end = np.where(rest > 0, self._until(rest), whole)
        return np.maximum(0.0, 1e3 * (end + rounds * self.duration - start))

    def _until(self, megabits: Floats) -> Floats:
        """When so much has been delivered, within one round."""
        place = np.clip(np.searchsorted(self.megabits, megabits - _ROUNDING, side="left"), 1, len(self.megabits) - 1)
        low, high = self.megabits[place - 1], self.megabits[place]
        share = np.where(high > low, (megabits - low) / np.where(high > low, high - low, 1), 1.0)
        until: Floats = self.seconds[place - 1] + share * (self.seconds[place] - self.seconds[place - 1])
        return until


_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class RatePoint(BaseModel):
    """From when on a link has which rate."""

    model_config = _STRICT

    seconds: float = Field(ge=0, le=_DAY_S, description="since the trace began")
    mbps: float = Field(ge=0, le=1e9, description="10^6 bits per second from then on; 0: nothing gets through")


class Link(BaseModel):
    """A simulated link. The default takes no time and loses nothing."""

    model_config = _STRICT

    rate_mbps: float | None = Field(
        None, ge=1e-6, le=1e9, description="10^6 bits per second; null: unlimited", examples=[20, 0.1, 1000]
    )
    rtt_ms: float = Field(0, ge=0, le=_HOUR_MS, description="round-trip time, ms", examples=[40, 0, 400])
    jitter_ms: float = Field(
        0, ge=0, le=_HOUR_MS, description="standard deviation of the one-way delay, ms", examples=[5, 0, 100]
    )
    loss: float = Field(0, ge=0, le=0.99, description="probability that a packet is lost", examples=[0.01, 0, 0.5])
    on_loss: Literal["retransmit", "erase"] = Field(
        "retransmit",
        description="lost packets are sent again until they arrive (time, no damage), or not (damage, concealed)",
    )
    conceal: Concealment = Field("zero", description="what erased samples become; see packet_loss")
    burst: float = Field(1, ge=1, le=1000, description="mean number of packets erased in a row; 1: independent")
    loss_trace: str = Field(
        "", max_length=4096, pattern=r"^[.x]*$", description="which packets are erased, x, in place of `loss`"
    )
    parity: float = Field(0, ge=0, le=4, description="packets of parity for each packet of a codec's units")
    key_parity: float | None = Field(None, ge=0, le=4, description="of frames that others are coded from")
    interleave: int = Field(1, ge=1, le=64, description="packets sent one after the other are so many apart")
    deadline_ms: float = Field(
        0,
        ge=0,
        le=_HOUR_MS,
        description="what is missing of a codec's units is sent again as often as a round trip fits in, up to 16 times",
    )
    key_request: int = Field(0, ge=0, le=256, description="frames of a stream from a loss to a requested key frame")
    mtu: int = Field(1500, ge=64, le=65535, description="bytes per packet")
    wait: bool = Field(False, description="let the time pass instead of only reporting it")
    seed: int = Field(0, ge=0, lt=2**32)
    trace: list[RatePoint] = Field(
        [],
        max_length=4096,
        description="a rate that changes, in place of `rate_mbps`: seconds rise from 0, the last point ends the trace, "
        "which then begins anew. A still picture comes at a random moment of it",
    )

    @model_validator(mode="after")
    def _erases(self) -> Self:
        if self.on_loss == "retransmit":
            names = ("burst", "loss_trace", "parity", "key_parity", "interleave", "deadline_ms", "key_request")
            given = [name for name in names if getattr(self, name) != Link.model_fields[name].default]
            if given:
                raise ValueError(f"{given[0]} is for on_loss=erase")
        try:
            self.erasure()
        except ValidationError as error:
            raise ValueError(validation_line(error)) from None
        return self

    @model_validator(mode="after")
    def _is_a_trace(self) -> Self:
        if not self.trace:
            return self
        if self.rate_mbps is not None:
            raise ValueError("give rate_mbps or trace, not both")
        moments = [point.seconds for point in self.trace]
        if moments[0] != 0 or len(moments) < 2 or any(later <= sooner for sooner, later in pairwise(moments)):
            raise ValueError("trace: needs two points or more, with seconds rising from 0")
        if self.rates is None or self.rates.megabits[-1] < 1e-6:
            raise ValueError("trace: delivers nothing")
        return self

    @cached_property
    def rates(self) -> Trace | None:
        """Its trace; None where the rate is constant."""
        if not self.trace:
            return None
        return Trace.of_rates([point.seconds for point in self.trace], [point.mbps for point in self.trace])

    def erasure(self) -> PacketLoss | None:
        """What the link's losses do to samples; None if nothing."""
        if self.on_loss == "retransmit" or not (self.loss or self.loss_trace):
            return None
        in_time = (self.deadline_ms - self.rtt_ms / 2) / max(self.rtt_ms, _SHORTEST_MS)
        return PacketLoss(
            rate=self.loss,
            burst=self.burst,
            mtu=self.mtu,
            conceal=self.conceal,
            parity=self.parity,
            key_parity=self.key_parity,
            interleave=self.interleave,
            retries=int(min(_MOST_ROUNDS, max(0, in_time))),
            key_request=self.key_request,
            trace=self.loss_trace,
        )

    def transfer(self, bits: int, rng: np.random.Generator, rounds: int = 0) -> Transfer:
        """Send ``bits``.

        They take the one-way delay, plus serialisation at the rate, plus, for each round of retransmissions, a round
        trip and the lost packets' serialisation.

        Args:
            bits: what is to cross the link.
            rng: the stream of this image's jitter and losses.
            rounds: in which erased packets were sent again; they are among the bits.

        Example:
            >>> Link(rate_mbps=10, rtt_ms=40).transfer(1_000_000, np.random.default_rng(0))
            Transfer(ms=120.0, bits=1000000)
        """
        delay_ms, sent = self.draw(bits, rng, rounds)
        start_s = 0.0 if self.rates is None else rng.uniform(0, self.rates.duration)
        return Transfer(delay_ms + self.serialise_ms(sent, start_s), sent)

    def draw(self, bits: int, rng: np.random.Generator, rounds: int = 0) -> Sending:
        """Draw what the rate has no part in; the arguments are those of :meth:`transfer`."""
        ms = max(0.0, self.rtt_ms / 2 + rng.normal(0, self.jitter_ms)) + rounds * self.rtt_ms
        sent = bits
        lost = self._lost(-(-bits // (8 * self.mtu)), rng)
        while lost:
            ms += self.rtt_ms
            sent += lost * 8 * self.mtu
            lost = self._lost(lost, rng)
        return Sending(float(ms), sent)

    def serialise_ms(self, bits: int, start_s: float, rates: Trace | None = None) -> float:
        """How long bits hold the link, in ms.

        Args:
            bits: to be sent.
            start_s: when the first leaves, in seconds of the trace; without meaning at a constant rate.
            rates: a trace in place of the link's own.
        """
        rates = rates or self.rates
        if rates is not None:
            return float(rates.deliver_ms(start_s, bits))
        return 0.0 if self.rate_mbps is None else bits / (self.rate_mbps * 1e3)

    def _lost(self, packets: int, rng: np.random.Generator) -> int:
        return int(rng.binomial(packets, self.loss)) if self.on_loss == "retransmit" else 0


@dataclass(frozen=True)
class Passage:
    """A frame's way through a queue and over the link.

    Attributes:
        ready_s: when it joined the queue, in seconds on the queue's clock, as all moments are.
        start_s: when its first bit leaves.
        sent_s: when its last bit has left, and the next frame's turn has come.
        arrival_s: when its last bit is there.
        bits: what was sent, packets sent again included.
    """

    ready_s: float
    start_s: float
    sent_s: float
    arrival_s: float
    bits: int

    @property
    def queued_ms(self) -> float:
        """How long it waited for the frames before it."""
        return 1e3 * (self.start_s - self.ready_s)

    @property
    def ms(self) -> float:
        """From joining the queue to the last bit's arrival."""
        return 1e3 * (self.arrival_s - self.ready_s)


class LinkQueue:
    """Frames that cross a link one behind another, in the order in which they are given.

    A frame's bits, those of packets sent again included, hold the link for as long as they take at its rate. Delay,
    jitter and the round trips of retransmissions do not: meanwhile the link serves the frames behind. Since frames
    arrive in order, one that is delayed also holds back those behind it.

    The clock is the caller's: a monotonic one for frames that really wait, or a simulation's.

    Args:
        link: what they cross.
        begun_s: when the trace begins, on that clock.
        rates: a trace in place of the link's own, which may be longer than that can be.

    Example:
        >>> queue, rng = LinkQueue(Link(rate_mbps=1, rtt_ms=40)), np.random.default_rng(0)
        >>> first, second = queue.send(100_000, 0.0, rng), queue.send(50_000, 0.03, rng)
        >>> first.sent_s, second.start_s, round(first.ms), round(second.queued_ms), round(second.ms)
        (0.1, 0.1, 120, 70, 140)
        >>> queue.waiting(0.05), round(queue.backlog_ms(0.05))
        (1, 100)
    """

    def __init__(self, link: Link, begun_s: float = 0.0, rates: Trace | None = None) -> None:
        self.link = link
        self._begun_s, self._rates = begun_s, rates
        self._free_s = self._last_arrival_s = -np.inf
        self._starts: deque[float] = deque()

    def send(self, bits: int, ready_s: float, rng: np.random.Generator, rounds: int = 0) -> Passage:
        """Put a frame into the queue.

        Args:
            bits: what is to cross.
            ready_s: now; not before any earlier frame's.
            rng: the stream of this frame's jitter and losses.
            rounds: in which erased packets were sent again.
        """
        delay_ms, sent = self.link.draw(bits, rng, rounds)
        start_s = max(ready_s, self._free_s)
        self._free_s = start_s + self.link.serialise_ms(sent, start_s - self._begun_s, self._rates) / 1e3
        self._last_arrival_s = max(self._last_arrival_s, self._free_s + delay_ms / 1e3)
        self._forget(ready_s)
        self._starts.append(start_s)
        return Passage(ready_s, start_s, self._free_s, self._last_arrival_s, sent)

    def waiting(self, now_s: float) -> int:
        """Frames in the queue, without the one that is being sent."""
        self._forget(now_s)
        return len(self._starts)

    def backlog_ms(self, now_s: float) -> float:
        """How long a frame that came now would wait."""
        return max(0.0, 1e3 * (self._free_s - now_s))

    def _forget(self, now_s: float) -> None:
        while self._starts and self._starts[0] <= now_s:
            self._starts.popleft()


def parse_link(text: str) -> Link:
    """Read a link's JSON form.

    Raises:
        InvalidLinkError: with one line that says what is wrong where.

    Example:
        >>> parse_link('{"rtt_ms": 40}').rtt_ms
        40.0
    """
    try:
        return Link.model_validate_json(text)
    except ValidationError as error:
        raise InvalidLinkError(validation_line(error)) from None
