"""Change the histogram of samples and keep their order."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import Kind, register
from featlink.shared.frames.bitstream import Samples, dtype_for


@register
class Monotone(Distortion):
    """Map samples through a power law (gamma correction): their order is kept, the histogram is not."""

    kind: ClassVar[Kind] = "probe"
    strength: ClassVar[str | None] = "gamma"

    type: Literal["monotone"] = "monotone"
    gamma: float = Field(
        gt=0, description="exponent of the samples scaled to 0..1; 1 changes nothing", examples=[1.5, 0.2, 5]
    )

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Map every sample."""
        del rng
        return replace(planes, samples=look_up(planes.samples, power_law(planes.bits, self.gamma)))


def power_law(bits: int, gamma: float) -> npt.NDArray[np.unsignedinteger]:
    """Tabulate x → top·(x/top)^γ with top = 2^t - 1, rounded to nearest.

    Before rounding the map is strictly increasing. Rounding merges neighbours where its slope is below 1 (the low end
    for γ > 1, the high end for γ < 1), so order is never reversed, and the rank correlation of samples before and
    after is 1 if no two values that occur among them are merged.

    Args:
        bits: t in 1..16.
        gamma: γ > 0.

    Returns:
        Shape (2**bits,), not decreasing, from 0 to 2**bits - 1.

    Example:
        >>> power_law(3, 2.0).tolist()
        [0, 0, 1, 1, 2, 4, 5, 7]
    """
    top = (1 << bits) - 1
    return np.rint(top * (np.arange(top + 1) / top) ** gamma).astype(dtype_for(bits))


def look_up(samples: Samples, table: Samples) -> Samples:
    """Map samples through a table of their dtype.

    Args:
        samples: shape (C, H, W), uint8 or uint16, each less than the table's length.
        table: shape (2**t,), of the same dtype.

    Returns:
        Same shape and dtype as ``samples``.

    Example:
        >>> look_up(np.array([[[0, 3]]], np.uint8), np.array([5, 6, 7, 8], np.uint8)).tolist()
        [[[5, 8]]]
    """
    if samples.dtype == np.uint16:
        return np.take(table, samples)
    mapped = np.empty(samples.shape, np.uint8)
    padded = np.resize(table, 256)  # OpenCV's look-up is several times faster than NumPy's, and wants all of 256
    cv2.LUT(samples.reshape(len(samples), -1), padded, dst=mapped.reshape(len(samples), -1))
    return mapped
