"""Clip samples to where most of them are."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import register
from featlink.shared.features import Array
from featlink.shared.frames.bitstream import Samples


@register
class Clip(Distortion):
    """Clip at ``sigmas`` standard deviations on both sides of the mean, of a level or an image.

    Few features are far from the mean, and quantisation spends most of its values on them. Before quantisation, and
    before any step of samples, it acts on the floats: the range that samples are mapped from becomes narrower, per
    channel under ``range=channel``. Behind another step it acts on that one's samples.

    Source: Cohen, Choi and Bajić, Lightweight Compression of Intermediate Neural Network Features, arXiv 2105.07102,
    which clips before it quantises and codes.
    """

    strength: ClassVar[str | None] = "sigmas"

    type: Literal["clip"] = "clip"
    sigmas: float = Field(
        gt=0, le=1000, description="standard deviations from the mean that are kept", examples=[3, 1, 10]
    )

    @property
    def keeps_depth(self) -> bool:
        """It takes any depth."""
        return True

    def narrow(self, values: Array, ranges: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(m, M) within mean ± ``sigmas``·σ and within what they were, of the level or of each channel."""
        rows = values.reshape(len(ranges), -1)
        mean, deviation = rows.mean(axis=1, dtype=np.float64), rows.std(axis=1, dtype=np.float64)
        bounds = np.stack([mean - self.sigmas * deviation, mean + self.sigmas * deviation], axis=1)
        narrowed: npt.NDArray[np.float32] = np.clip(bounds, ranges[:, :1], ranges[:, 1:]).astype(np.float32)
        return narrowed

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Clip samples at their depth; the bounds are rounded to samples."""
        del rng
        return replace(planes, samples=clip(planes.samples, self.sigmas))


def clip(samples: Samples, sigmas: float) -> Samples:
    """Clip at ``sigmas`` standard deviations from the mean, rounded to integers.

    Args:
        samples: any shape, not empty.
        sigmas: above 0.

    Returns:
        Same shape and dtype.

    Example:
        >>> clip(np.array([0, 9, 10, 10, 11, 90], np.uint8), 1).tolist()
        [0, 9, 10, 10, 11, 52]
    """
    mean, deviation = samples.mean(dtype=np.float64), samples.std(dtype=np.float64)
    low, high = np.rint([mean - sigmas * deviation, mean + sigmas * deviation])
    return np.clip(samples, max(low, samples.min()), min(high, samples.max())).astype(samples.dtype)
