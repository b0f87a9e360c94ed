"""Independent bit errors in the quantised payload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import Kind, register
from featlink.shared.frames.bitstream import Samples

_DRAWS = 1 << 14
"""Errors drawn at once. The stream is drawn in order, so this changes nothing."""


@register
class BitError(Distortion):
    """Flip bits of the samples on the link, a binary symmetric channel without error correction.

    Every bit of the payload is a bit of one sample, but for the padding of the last byte, so flipping the samples'
    bits is flipping the payload's.
    """

    kind: ClassVar[Kind] = "loss"
    random: ClassVar[bool] = True
    strength: ClassVar[str | None] = "ber"

    type: Literal["bit_error"] = "bit_error"
    ber: float = Field(
        ge=0, le=1, description="bit error rate: probability that a bit is flipped", examples=[1e-5, 1e-4, 1e-2]
    )

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Flip each bit with probability ``self.ber``."""
        samples = planes.samples.copy()
        for positions in error_positions(samples.size * planes.bits, self.ber, rng):
            flip(samples, planes.bits, positions)
        return replace(planes, samples=samples)


def error_positions(count: int, ber: float, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Draw which of ``count`` bits are in error, at a cost that grows with the errors, not with the bits.

    From one error to the next it is a geometrically distributed number of bits. This is the same law as a binomial
    number of errors at distinct, uniform positions, but needs no memory of the positions taken.

    Args:
        count: number of bits.
        ber: probability of an error, 0..1.
        rng: a number is drawn per error.

    Yields:
        Positions in 0..count - 1, strictly increasing through all arrays.

    Example:
        >>> np.concatenate(list(error_positions(1000, 0.005, np.random.default_rng(0)))).tolist()
        [135, 339, 343, 344, 454, 780, 915]
    """
    last = -1
    while ber > 0 and last < count:
        gaps = rng.geometric(ber, _DRAWS)
        positions = last + np.cumsum(np.minimum(gaps, count + 1))  # longer ones could overflow the sum
        last = int(positions[-1])
        yield positions[positions < count]


def flip(samples: Samples, bits: int, positions: npt.NDArray[np.int64]) -> None:
    """Flip bits of samples in place.

    Args:
        samples: any shape, contiguous.
        bits: their depth t, 1..16.
        positions: distinct; bit p is bit p mod t (0 the lowest) of sample p div t, in C order.

    Example:
        >>> samples = np.zeros(3, np.uint8)
        >>> flip(samples, 4, np.array([0, 3, 5]))
        >>> samples.tolist()
        [9, 2, 0]
    """
    sample, bit = np.divmod(positions, bits)
    masks = np.left_shift(1, bit).astype(samples.dtype)
    np.bitwise_xor.at(samples.reshape(-1), sample, masks)  # unlike ^=, .at takes all errors of one sample
