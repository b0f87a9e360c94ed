"""Packet loss, independent or in bursts, and its concealment.

The loss model is Gilbert's (1960): a two-state Markov chain that loses every packet in its bad state and none in
its good one; Elliott (1963) generalised it, hence the name Gilbert–Elliott.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from featlink.channel.codecs.base import Codec
from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import Kind, Step, register
from featlink.shared.features import Array
from featlink.shared.frames.bitstream import Samples, dtype_for, pack, unpack
from featlink.shared.frames.packing import quantize

Concealment = Literal["zero", "mean", "none", "neighbour", "last"]
PACKET_HEADER = 12
"""Bytes of Featlink's header in a packet of coded units (:mod:`featlink.channel.packets`)."""
Mask = npt.NDArray[np.bool_]
_CODED = ("parity", "key_parity", "interleave", "retries", "key_request", "trace")
_LEAST_ROOM = 12


@register
class PacketLoss(Distortion):
    """Cut the payload (``pack``), or the units that a codec made, into packets, lose some, conceal what was in them.

    Samples: each level's packets are its own. Behind a codec: see :mod:`featlink.channel.packets`; parameters from
    ``parity`` on are for that alone.
    """

    kind: ClassVar[Kind] = "loss"
    random: ClassVar[bool] = True
    strength: ClassVar[str | None] = "rate"

    type: Literal["packet_loss"] = "packet_loss"
    rate: float = Field(ge=0, le=1, description="mean share of packets that are lost", examples=[0.02, 0.001, 0.5])
    burst: float = Field(
        default=1,
        ge=1,
        description="mean number of packets lost in a row, at least the 1/(1 - rate) of independent losses; "
        "1: independent losses",
    )
    mtu: int = Field(default=1500, ge=64, le=65535, description="bytes per packet, headers included")
    header: int = Field(default=40, ge=0, le=60, description="bytes of headers per packet; IPv4, UDP and RTP take 40")
    conceal: Concealment = Field(
        default="zero",
        description="what lost samples become. zero: the sample nearest to the feature value 0; mean: the mean of the "
        "channel's received samples; none: as in the receive buffer, where bits that did not arrive are 0. Behind a "
        "codec also neighbour: between the nearest rows that came, or a level lost whole from the next one; last: as "
        "in the item before, else neighbour",
    )
    parity: float = Field(
        default=0,
        ge=0,
        le=4,
        description="packets of parity for each packet, rounded up: any k of a block of k + parity are enough",
        examples=[0.2, 0, 1],
    )
    key_parity: float | None = Field(
        default=None, ge=0, le=4, description="parity of items that others are coded from; default: as of all"
    )
    interleave: int = Field(
        default=1, ge=1, le=64, description="packets sent one after the other are so many apart in the picture"
    )
    retries: int = Field(default=0, ge=0, le=16, description="how often what is missing is sent again: round trips")
    key_request: int = Field(
        default=0,
        ge=0,
        le=256,
        description="items from a loss in a stream to the one that is coded alone because the receiver asked for it: "
        "a round trip; 0: it asks for none",
    )
    trace: str = Field(
        default="",
        max_length=4096,
        pattern=r"^[.x]*$",
        description="which packets are lost (x) or arrive (.), again and again, from a random one on; beside rate=0",
    )

    @model_validator(mode="after")
    def _possible(self) -> PacketLoss:
        if self.burst > 1 and self.burst * (1 - self.rate) < 1:
            least = f"{1 / (1 - self.rate):.6g}" if self.rate < 1 else "unlimited"
            raise ValueError(
                f"burst={self.burst:g} is too short for rate={self.rate:g}: "
                f"the mean burst of independent losses (burst=1) is {least}"
            )
        if self.trace and (self.rate or self.burst > 1):
            raise ValueError("give rate=0 beside a trace, which says what is lost")
        return self

    def misplaced(self, before: Sequence[Step]) -> str | None:
        """See the base class."""
        codec = next((step for step in before if isinstance(step, Codec)), None)
        if codec is None:
            given = [name for name in _CODED if getattr(self, name) != PacketLoss.model_fields[name].default]
            if given:
                return f"{given[0]} is for the packets of a codec, and there is none before packet_loss"
            return f"conceal={self.conceal} is for a codec's units" if self.conceal in ("neighbour", "last") else None
        if codec is not before[-1]:
            return f"packet_loss loses packets of {codec.type}'s units, so it stands right behind it"
        if codec.delay:
            return f"packet_loss is for codecs that hold no pictures back, and {codec.type} holds {codec.delay}"
        if self.conceal == "none":
            return "conceal=none is for samples; something must stand for a coded picture's missing part"
        if self.mtu < self.header + PACKET_HEADER + _LEAST_ROOM:
            return f"mtu={self.mtu} leaves no room for units behind headers of {self.header + PACKET_HEADER} bytes"
        return None

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Lose packets of one level or image."""
        payload = pack(planes.samples.reshape(-1), planes.bits)
        packets = lose_packets(self._packets(payload.size), self.rate, self.burst, rng)
        lost = np.repeat(packets, self.mtu - self.header)[: payload.size]
        if self.conceal == "none":
            received = np.where(lost, np.uint8(0), payload)
            samples = unpack(received, planes.bits, planes.samples.size).reshape(planes.samples.shape)
        else:
            missing = lost_samples(lost, planes.bits, planes.samples.size).reshape(planes.samples.shape)
            samples = conceal(planes, missing, self.conceal)
        return replace(planes, samples=samples)

    def overhead_bits(self, payload_bits: int) -> int:
        """Bits of the packets' headers."""
        return 8 * self.header * self._packets(-(-payload_bits // 8))

    def _packets(self, payload_bytes: int) -> int:
        return -(-payload_bytes // (self.mtu - self.header))


def lose_packets(count: int, rate: float, burst: float, rng: np.random.Generator, before: bool | None = None) -> Mask:
    """Decide which packets are lost.

    With P(bad → good) = 1/burst a burst lasts ``burst`` packets in the mean, and with
    P(good → bad) = rate/(burst·(1 - rate)) the chain is in its bad state for a share ``rate`` of the time.
    It starts stationary, so every packet is lost with that probability, or goes on from the packet before.

    Args:
        count: number of packets.
        rate: probability of loss, 0..1.
        burst: mean length of a burst, at least 1/(1 - rate); 1 for independent losses.
        rng: one number is drawn per packet.
        before: whether the packet before was lost; None where there is none.

    Returns:
        Shape (count,), true where lost.

    Example:
        >>> lose_packets(16, 0.3, 4.0, np.random.default_rng(4)).astype(int).tolist()
        [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    begin, end = (rate / (burst * (1 - rate)), 1 / burst) if burst > 1 else (rate, 1 - rate)
    draws = rng.random(count)
    # As begin <= 1 - end, a draw below begin leads to the bad state from either, one from 1 - end on to the good
    # state from either, and one between them leaves the state as the latest decisive draw made it.
    lost = draws < begin
    decisive = lost | (draws >= 1 - end)
    lost[:1] = draws[:1] < rate if before is None else np.where(decisive[:1], lost[:1], before)
    latest = np.maximum.accumulate(np.where(decisive, np.arange(count), 0))
    return lost[latest]


def lost_samples(lost: Mask, bits: int, count: int) -> Mask:
    """Find the samples of which any bit is lost.

    Args:
        lost: shape (nbytes(count, bits),), which bytes of the packed stream are lost.
        bits: t in 1..16.
        count: number of samples.

    Returns:
        Shape (count,).

    Example:
        >>> lost_samples(np.array([False, True, False]), 6, 4).tolist()
        [False, True, True, False]
    """
    ones = np.full(count, (1 << bits) - 1, dtype_for(bits))
    missing: Mask = unpack(np.where(lost, np.uint8(0), pack(ones, bits)), bits, count) != ones
    return missing


def conceal(planes: Planes, missing: Mask, how: Concealment, before: Array | None = None) -> Samples:
    """Replace missing samples.

    Args:
        planes: samples of shape (C, H, W).
        missing: same shape.
        how: ``zero`` for the sample nearest to the feature value 0, ``mean`` for the rounded mean of the samples
            received of the same channel; if none was, of the level; if none at all, the middle of the range;
            ``neighbour``, where whole rows are missing, for what lies between the nearest that were received of the
            same channel, ``mean`` where none was; ``last`` for ``before``.
        before: float32 (C, H, W), values of the item before; None where there is none: ``last`` is ``neighbour`` then.

    Returns:
        Samples of shape (C, H, W).

    Example:
        >>> planes = Planes(np.array([[[10, 20, 99]]], np.uint8), 8, np.array([[-1.0, 1.0]], np.float32))
        >>> missing = np.array([[[False, False, True]]])
        >>> conceal(planes, missing, "mean").tolist(), conceal(planes, missing, "zero").tolist()
        ([[[10, 20, 15]]], [[[10, 20, 128]]])
    """
    if how == "last" and before is not None:
        return np.where(missing, as_samples(before, planes), planes.samples)
    if how == "zero":
        return np.where(missing, _zeros(planes), planes.samples)
    concealed = np.where(missing, _means(planes, missing), planes.samples)
    return concealed if how == "mean" else _between_rows(concealed, missing[:, :, 0])


def as_samples(values: Array, planes: Planes) -> Samples:
    """Values (C, H, W) at the depth and in the ranges of planes; others than those are clipped."""
    low, high = planes.ranges[:, :1, None], planes.ranges[:, 1:, None]
    return quantize(np.minimum(np.maximum(values, low), high), planes.ranges, planes.bits)


def _between_rows(samples: Samples, missing: Mask) -> Samples:
    """Rows (C, H) that are missing, between the nearest above and below in each channel."""
    out = samples.copy()
    patterns, which = np.unique(missing, axis=0, return_inverse=True)
    rows = np.arange(missing.shape[1])
    for number, pattern in enumerate(patterns):
        there = np.flatnonzero(~pattern)
        if not there.size or there.size == rows.size:
            continue
        gone = np.flatnonzero(pattern)
        at = np.interp(gone, there, np.arange(there.size))
        above, below = there[np.floor(at).astype(int)], there[np.ceil(at).astype(int)]
        share = np.where(above == below, 0, (gone - above) / np.maximum(below - above, 1))[:, None]
        channels = np.flatnonzero(which.reshape(-1) == number)[:, None]
        between = samples[channels, above] * (1 - share) + samples[channels, below] * share
        out[channels, gone] = np.rint(between).astype(samples.dtype)
    return out


def _zeros(planes: Planes) -> Samples:
    low, high = planes.ranges[:, :1, None], planes.ranges[:, 1:, None]
    return quantize(np.minimum(np.maximum(low, 0), high), planes.ranges, planes.bits)


def _means(planes: Planes, missing: Mask) -> Samples:
    counts = (~missing).sum(axis=(1, 2))
    totals = np.where(missing, 0, planes.samples).sum(axis=(1, 2), dtype=np.int64)
    of_all = totals.sum() / counts.sum() if counts.any() else 1 << (planes.bits - 1)
    means = np.where(counts > 0, totals / np.maximum(counts, 1), of_all)
    return np.rint(means).astype(planes.samples.dtype)[:, None, None]
