"""Gaussian blur (the paper's section III-1).

OpenCV's own 8-bit blur rounds the taps to 1/256, which moves one sample in fifteen by 1. Here the sums are
float32, so that samples are the rounded exact ones except within about 1e-5 (8 bits) or 1e-2 (16 bits) of a tie.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import register
from featlink.shared.frames.bitstream import Samples

_STRIP = 1 << 19
"""Samples per strip: many compared with the rows the window reaches into, few enough for memory and caches."""
_LEAST_TAP = 2.0**-25
"""Smaller taps are lost in float32 sums, and subnormal ones are slow."""


@register
class GaussianBlur(Distortion):
    """Convolve each plane with a Gaussian."""

    spatial: ClassVar[bool] = True
    strength: ClassVar[str | None] = "sigma"

    type: Literal["gaussian_blur"] = "gaussian_blur"
    sigma: float = Field(gt=0, description="standard deviation of the Gaussian, in samples", examples=[1.5, 0.5, 5])
    window: int = Field(
        default=21,
        ge=1,
        le=101,
        description="side of the square window, in samples; odd",
        json_schema_extra={"not": {"multipleOf": 2}},
    )

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"{window} is not odd")
        return window

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Blur each plane alone."""
        del rng
        return replace(planes, samples=blur(planes.samples, self.sigma, self.window))


def blur(samples: Samples, sigma: float, window: int) -> Samples:
    """Convolve planes with the sampled, normalised Gaussian; round to nearest.

    Borders are mirrored about the outermost samples (reflect-101: ``dcb|abcd|cba``), as often as a window larger
    than the plane needs. Works in as many threads as OpenCV may use (``cv2.setNumThreads``).

    Args:
        samples: shape (N, H, W), uint8 or uint16.
        sigma: standard deviation in samples, > 0.
        window: taps per axis, odd.

    Returns:
        Same shape and dtype.

    Example:
        >>> blur(np.array([[[0, 0, 80, 0, 0]]], np.uint8), sigma=1.0, window=3).tolist()
        [[[0, 22, 36, 22, 0]]]
    """
    taps = gaussian(sigma, window)
    halo = len(taps) // 2
    count, height, width = samples.shape
    step = max(_STRIP // width, len(taps))
    blurred = np.empty(samples.shape, samples.dtype)

    def strip(plane: int, start: int) -> None:
        first = max(start - halo, 0)
        source = samples[plane, first : start + step + halo]
        sums = cv2.sepFilter2D(source, cv2.CV_32F, taps, taps)  # reflect-101 is its default border
        blurred[plane, start : start + step] = np.rint(sums, out=sums)[start - first :][:step]

    with ThreadPoolExecutor(max(cv2.getNumThreads(), 1)) as pool:
        jobs = [pool.submit(strip, plane, start) for plane in range(count) for start in range(0, height, step)]
        for job in jobs:
            job.result()
    return blurred


def gaussian(sigma: float, window: int) -> npt.NDArray[np.float32]:
    """Sample exp(-x²/2σ²) at the integers and normalise to a sum of 1.

    Args:
        sigma: σ > 0.
        window: taps, odd; fewer are returned where the outer ones are too small to matter in float32.

    Returns:
        float32 array (n,), n odd and at most ``window``.

    Example:
        >>> gaussian(1.0, 3).round(3).tolist()
        [0.27399998903274536, 0.4519999921321869, 0.27399998903274536]
    """
    with np.errstate(over="ignore"):  # of the narrowest Gaussians: one tap is left
        taps = np.exp(-0.5 * (np.arange(-(window // 2), window // 2 + 1) / sigma) ** 2)
    taps /= taps.sum()
    return taps[taps > _LEAST_TAP].astype(np.float32)
