"""Uniform quantisation to t bits (the paper's section III-4)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import register
from featlink.shared.frames.bitstream import Samples, dtype_for


@register
class Quantize(Distortion):
    """Keep ``bits`` bits per sample.

    First in a chain it quantises the floats themselves, q = round((F - m)·(2^t - 1)/(M - m)); after another
    distortion it quantises that one's samples.
    """

    strength: ClassVar[str | None] = "bits"
    changes_bits: ClassVar[bool] = True

    type: Literal["quantize"] = "quantize"
    bits: int = Field(ge=1, le=16, description="bits per sample", examples=[4, 1, 8])

    @property
    def keeps_depth(self) -> bool:
        """It maps from any depth."""
        return True

    @property
    def first_depth(self) -> int:
        """First in a chain, it quantises the floats themselves."""
        return self.bits

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Quantise samples to ``self.bits``."""
        del rng
        return replace(planes, samples=requantize(planes.samples, planes.bits, self.bits), bits=self.bits)


def requantize(samples: Samples, bits: int, to_bits: int) -> Samples:
    """Map samples of one bit depth to the nearest of another.

    Args:
        samples: any shape, values in 0..2**bits - 1.
        bits: their depth, 1..16.
        to_bits: the new depth, 1..16.

    Returns:
        Same shape, values in 0..2**to_bits - 1.

    Example:
        >>> requantize(np.array([0, 100, 255], np.uint8), 8, 2).tolist()
        [0, 1, 3]
    """
    if bits == to_bits:
        return samples
    table = np.rint(np.arange(1 << bits) * ((1 << to_bits) - 1) / ((1 << bits) - 1))
    return table.astype(dtype_for(to_bits))[samples]
