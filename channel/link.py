"""Simulate the link: the transfer time of a frame by rate, round trip, jitter and lost packets, and its erasures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featlink.channel.distortions.packet_loss import Concealment, PacketLoss
from featlink.shared.conditions.language import validation_line
from featlink.shared.errors import FeatlinkError, InvalidLinkError

_HOUR_MS = 3_600_000


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


class Link(BaseModel):
    """A simulated link. The default takes no time and loses nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

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
    mtu: int = Field(1500, ge=64, le=65535, description="bytes per packet")
    wait: bool = Field(False, description="let the time pass instead of only reporting it")
    seed: int = Field(0, ge=0, lt=2**32)

    def erasure(self) -> PacketLoss | None:
        """What the link's losses do to samples; None if nothing."""
        if self.on_loss == "retransmit" or not self.loss:
            return None
        return PacketLoss(rate=self.loss, mtu=self.mtu, conceal=self.conceal)

    def transfer(self, bits: int, rng: np.random.Generator) -> Transfer:
        """Send ``bits``.

        They take the one-way delay, plus serialisation at the rate, plus, for each round of retransmissions, a round
        trip and the lost packets' serialisation.

        Args:
            bits: what is to cross the link.
            rng: the stream of this image's jitter and losses.

        Example:
            >>> Link(rate_mbps=10, rtt_ms=40).transfer(1_000_000, np.random.default_rng(0))
            Transfer(ms=120.0, bits=1000000)
        """
        per_ms = np.inf if self.rate_mbps is None else self.rate_mbps * 1e3
        ms = max(0.0, self.rtt_ms / 2 + rng.normal(0, self.jitter_ms))
        sent = bits
        lost = self._lost(-(-bits // (8 * self.mtu)), rng)
        while lost:
            ms += self.rtt_ms
            sent += lost * 8 * self.mtu
            lost = self._lost(lost, rng)
        return Transfer(float(ms + sent / per_ms), sent)

    def _lost(self, packets: int, rng: np.random.Generator) -> int:
        return int(rng.binomial(packets, self.loss)) if self.on_loss == "retransmit" else 0


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
