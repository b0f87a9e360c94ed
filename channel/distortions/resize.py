"""Loss of resolution: bicubic down, then bicubic up (the paper's section III-3)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import register
from featlink.shared.frames.bitstream import Samples


@register
class Resize(Distortion):
    """Shrink each plane by a factor and enlarge it again."""

    spatial: ClassVar[bool] = True
    strength: ClassVar[str | None] = "factor"

    type: Literal["resize"] = "resize"
    factor: Literal[2, 4, 8] = Field(description="how many times smaller each side becomes in between")

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Resize each plane alone."""
        del rng
        return replace(planes, samples=down_and_up(planes.samples, planes.bits, self.factor))


def down_and_up(samples: Samples, bits: int, factor: int) -> Samples:
    """Resize planes to ceil(size/factor) and back to their exact size; the picture in between has t-bit samples too.

    Args:
        samples: shape (N, H, W), values in 0..2**bits - 1.
        bits: their depth t, 1..16.
        factor: how many times smaller, at least 1.

    Returns:
        Same shape and dtype, values in 0..2**bits - 1.

    Example:
        >>> down_and_up(np.array([[[10, 20, 30, 40, 50, 60]]], np.uint8), 8, 2).tolist()
        [[[12, 18, 28, 42, 52, 58]]]
    """
    _, height, width = samples.shape
    small = bicubic(samples, bits, -(-height // factor), -(-width // factor))
    return bicubic(small, bits, height, width)


def bicubic(samples: Samples, bits: int, height: int, width: int) -> Samples:
    """Interpolate planes at another size, round to nearest and clip.

    OpenCV's interpolation: Keys' kernel with a = -0.75, no antialiasing filter, half-pixel centres, edge samples
    repeated, the ratio of the sizes as scale. It is in fixed point for 8-bit samples, as 8-bit resizers are, and in
    float32 for others; so results within a quarter of a unit of a tie can be rounded the other way.

    Args:
        samples: shape (N, H, W), values in 0..2**bits - 1.
        bits: their depth t, 1..16.
        height: new H.
        width: new W.

    Returns:
        Shape (N, height, width), of the same dtype, values in 0..2**bits - 1.

    Example:
        >>> bicubic(np.array([[[10, 20, 30, 40, 50, 60]]], np.uint8), 8, 1, 3).tolist()
        [[[14, 35, 56]]]
    """
    resized = np.empty((len(samples), height, width), samples.dtype)
    for plane, out in zip(samples, resized, strict=True):
        cv2.resize(plane, (width, height), dst=out, interpolation=cv2.INTER_CUBIC)
    return np.minimum(resized, (1 << bits) - 1, out=resized)  # OpenCV clips to the dtype only
