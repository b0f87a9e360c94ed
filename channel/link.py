"""The link: how long a frame takes at a rate, with a round trip, jitter and lost packets."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class Link(BaseModel):
    """A simulated link. The default takes no time.

    Lost packets are sent again until they arrive (time, not damage; damage is a distortion).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate_mbps: float | None = Field(None, gt=0, description="10^6 bits per second; null: unlimited")
    rtt_ms: float = Field(0, ge=0, description="round-trip time")
    jitter_ms: float = Field(0, ge=0, description="standard deviation of the one-way delay")
    loss: float = Field(0, ge=0, le=0.99, description="probability that a packet is lost")
    mtu: int = Field(1500, ge=64, le=65535, description="bytes per packet")
    seed: int = Field(0, ge=0, lt=2**32)

    def transfer_ms(self, bits: int, rng: np.random.Generator) -> float:
        """How long ``bits`` take from the first leaving to the last arriving.

        One-way delay, plus serialisation at the rate, plus, for each round of retransmissions, a round
        trip and the lost packets' serialisation.

        Args:
            bits: what crosses the link.
            rng: the stream of this image's jitter and losses.

        Returns:
            Milliseconds, at least 0.

        Example:
            >>> Link(rate_mbps=10, rtt_ms=40).transfer_ms(1_000_000, np.random.default_rng(0))
            120.0
        """
        per_ms = np.inf if self.rate_mbps is None else self.rate_mbps * 1e3
        delay = self.rtt_ms / 2 + rng.normal(0, self.jitter_ms)
        total = max(0.0, delay) + bits / per_ms
        lost = rng.binomial(-(-bits // (8 * self.mtu)), self.loss)
        while lost:
            total += self.rtt_ms + lost * 8 * self.mtu / per_ms
            lost = rng.binomial(lost, self.loss)
        return float(total)
