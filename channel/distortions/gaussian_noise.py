"""Additive white Gaussian noise (the paper's section III-2)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import register
from featlink.shared.frames.bitstream import Samples

_BLOCK = 1 << 16
"""Samples per block, few enough for the caches. The stream is drawn in order, so the block size changes no result."""


@register
class GaussianNoise(Distortion):
    """Add independent Gaussian noise to each sample."""

    random: ClassVar[bool] = True
    strength: ClassVar[str | None] = "sigma"

    type: Literal["gaussian_noise"] = "gaussian_noise"
    sigma: float = Field(
        ge=0, le=255, description="standard deviation of the noise, in units of 0..255", examples=[5, 1, 50]
    )

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Add noise to every sample, in the order of (C, H, W)."""
        return replace(planes, samples=add_noise(planes.samples, planes.bits, self.sigma, rng))


def add_noise(samples: Samples, bits: int, sigma: float, rng: np.random.Generator) -> Samples:
    """Add N(0, σ²), then round to nearest and clip.

    Args:
        samples: any shape, values in 0..2**bits - 1.
        bits: their depth t, 1..16.
        sigma: σ in units of 0..255; it scales by (2^t - 1)/255.
        rng: one standard normal is drawn per sample, in C order.

    Returns:
        Same shape and dtype, values in 0..2**bits - 1.

    Example:
        >>> add_noise(np.full(4, 128, np.uint8), 8, 0.0, np.random.default_rng(0)).tolist()
        [128, 128, 128, 128]
    """
    top = (1 << bits) - 1
    noisy = np.empty(samples.shape, samples.dtype)
    source, target = samples.reshape(-1), noisy.reshape(-1)
    buffer = np.empty(min(_BLOCK, source.size), np.float32)
    for start in range(0, source.size, _BLOCK):
        clean = source[start : start + _BLOCK]
        block = buffer[: clean.size]
        rng.standard_normal(out=block, dtype=np.float32)
        block *= np.float32(sigma * top / 255)
        block += clean
        np.rint(block, out=block)
        target[start : start + _BLOCK] = np.clip(block, 0, top, out=block)
    return noisy
