"""How long an image's bits take over a link: on average, and image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featlink.channel.link import Link
from featlink.channel.randomness import stream
from featlink.deciding.trace import Trace
from featlink.shared.evaluation.matching import Floats

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
        sizes = np.asarray(bits, np.float64)
        packets = np.ceil(sizes / (8 * self.link.mtu))
        loss = self.link.loss
        sent = sizes + packets * 8 * self.link.mtu * loss / (1 - loss)
        waiting = self.link.rtt_ms / 2 + self.link.rtt_ms * _rounds(packets, loss)
        return waiting + self.serialise_ms(sent)

    def serialise_ms(self, bits: npt.ArrayLike) -> Floats:
        """Mean time that the link itself is busy with bits, without round trips."""
        sizes = np.asarray(bits, np.float64)
        if self.trace is None:
            return sizes / (1e3 * self.mbps)
        starts = np.arange(_STARTS) / _STARTS * self.trace.duration
        busy: Floats = np.mean([self.trace.deliver_ms(np.full_like(sizes, start), sizes) for start in starts], axis=0)
        return busy

    def simulated_ms(self, bits: npt.ArrayLike, images: Sequence[int]) -> Floats:
        """One time for each image, by the law that the channel draws from. Over a trace, images come at moments spread
        over it.

        Args:
            bits: (N,) of each image.
            images: (N,) their ids.
        """
        sizes = np.asarray(bits, np.int64)
        bare = self.link if self.trace is None else self.link.model_copy(update={"rate_mbps": None})
        drawn = [
            bare.transfer(int(size), stream(bare.seed, "link", image, ""))
            for size, image in zip(sizes, images, strict=True)
        ]
        ms = np.array([one.ms for one in drawn])
        if self.trace is None:
            return ms
        starts = (np.arange(len(ms)) + 0.5) / max(1, len(ms)) * self.trace.duration
        return ms + self.trace.deliver_ms(starts, np.array([float(one.bits) for one in drawn]))


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
