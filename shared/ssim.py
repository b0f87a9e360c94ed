"""Structural similarity of planes (Wang, Bovik, Sheikh and Simoncelli, 2004), fast and in little memory.

The paper's settings: Gaussian window of 11 pixels and σ 1.5, K1 = 0.01, K2 = 0.03, data range 255,
population variances, averaged over the positions where the whole window lies inside the plane. So it
equals ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False, data_range=255)``.

The planes are worked off in strips of rows that fit the caches, in as many threads as OpenCV may use
(``cv2.setNumThreads``). Each thread keeps some ten megabytes of buffers and nothing else is allocated:
fresh arrays for each strip would spend more time in page faults than in arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from shared.packing import TILES
from shared.pyramid import Array

Plane = npt.NDArray[np.integer[Any] | np.floating[Any]]

WINDOW = 11
SIGMA = 1.5
PEAK = 255.0
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2
_HALO = WINDOW // 2
_STRIP = 1 << 18
"""Pixels worked off at once: many beside the ten more rows the windows reach into, few for the caches."""

_Strips = Callable[[list[slice]], Iterator[tuple[Plane, Plane]]]
"""From spans of rows to those rows of both planes; what was yielded may be overwritten by the next."""


def ssim(reference: Plane, distorted: Plane) -> float:
    """Mean structural similarity of two planes.

    A plane with a side shorter than the window has no position where the window fits; it is first
    extended by 5 pixels of its mirror image on every side, so that every pixel of it counts.

    Args:
        reference: shape (H, W), any real dtype, values in 0..255.
        distorted: same shape; values may lie outside 0..255 (the arithmetic is float32: thousands lose digits).

    Returns:
        SSIM in [-1, 1], exactly 1 for equal planes.

    Raises:
        ValueError: the shapes differ, are not two-dimensional or are empty; a value is not finite.

    Example:
        >>> plane = np.arange(240, dtype=np.uint8).reshape(15, 16)
        >>> ssim(plane, plane)
        1.0
        >>> round(ssim(plane, plane // 2), 3)
        0.65
    """
    if reference.shape != distorted.shape or reference.ndim != 2 or not reference.size:
        raise ValueError(f"SSIM needs two planes of one shape, not {reference.shape} and {distorted.shape}")
    if min(reference.shape) < WINDOW:
        reference, distorted = np.pad(reference, _HALO, "symmetric"), np.pad(distorted, _HALO, "symmetric")

    def strips(spans: list[slice]) -> Iterator[tuple[Plane, Plane]]:
        for rows in spans:
            yield reference[rows], distorted[rows]

    height, width = reference.shape
    return _mean_ssim(strips, height, width, low=0.0, scale=1.0)


def level_ssim(reference: Array, distorted: Array, low: float, scale: float) -> float:
    """Mean structural similarity of the planes that two levels tile to (see :func:`shared.packing.tile`).

    The planes themselves are never made: their rows are gathered from the channels as they are needed.

    Args:
        reference: shape (256, H, W).
        distorted: same shape.
        low: the value that maps to 0.
        scale: units of 0..255 per unit of the features; both levels become (F - low)·scale, unclipped.

    Returns:
        SSIM in [-1, 1], exactly 1 for equal levels.

    Raises:
        ValueError: the shapes differ or are not 256 channels; a value is not finite.

    Example:
        >>> level = np.random.default_rng(0).random((256, 2, 3), np.float32)
        >>> level_ssim(level, level, low=0.0, scale=255.0)
        1.0
    """
    if reference.shape != distorted.shape or reference.ndim != 3 or not reference.size:
        raise ValueError(f"SSIM needs two levels of one shape, not {reference.shape} and {distorted.shape}")
    channels, height, width = reference.shape
    if channels != TILES**2:
        raise ValueError(f"packing needs {TILES**2} channels, not {channels}")

    def strips(spans: list[slice]) -> Iterator[tuple[Plane, Plane]]:
        x, y = np.empty((2, spans[0].stop - spans[0].start, TILES * width), np.float32)
        for rows in spans:
            yield _gather(reference, rows, x), _gather(distorted, rows, y)

    return _mean_ssim(strips, TILES * height, TILES * width, low, scale)


def _gather(level: Array, rows: slice, buffer: Array) -> Array:
    """Copy rows of the plane that a level tiles to into the top of a buffer of the plane's width."""
    _, height, width = level.shape
    grid = level.reshape(TILES, TILES, height, width)
    out = buffer[: rows.stop - rows.start]
    tiles = out.reshape(-1, TILES, width)
    for tile_row in range(rows.start // height, -(-rows.stop // height)):
        offset = tile_row * height
        start, stop = max(rows.start, offset), min(rows.stop, offset + height)
        tiles[start - rows.start : stop - rows.start] = grid[tile_row, :, start - offset : stop - offset].swapaxes(0, 1)
    return out


def _mean_ssim(strips: _Strips, height: int, width: int, low: float, scale: float) -> float:
    """Average SSIM over the positions where the window fits."""
    last, step = height - 2 * _HALO, max(_STRIP // width, 2 * WINDOW)
    spans = [slice(start, min(start + step, last) + 2 * _HALO) for start in range(0, last, step)]
    threads = min(cv2.getNumThreads(), len(spans))

    def share(spans: list[slice]) -> list[float]:
        scratch = np.empty((6, spans[0].stop - spans[0].start, width), np.float32)
        return [_strip_sum(x, y, low, scale, scratch) for x, y in strips(spans)]

    with ThreadPoolExecutor(threads) as pool:
        sums = itertools.chain.from_iterable(pool.map(share, (spans[first::threads] for first in range(threads))))
        mean = math.fsum(sums) / (last * (width - 2 * _HALO))  # an exact sum, so that threads change nothing
    if not math.isfinite(mean):
        raise ValueError("SSIM is undefined: a value is not finite, or too large")
    return mean


def _strip_sum(x: Plane, y: Plane, low: float, scale: float, scratch: Array) -> float:
    """Sum SSIM over the positions where the window fits into a strip.

    With s = x + y and d = x - y, 4·μx·μy = μs² - μd² and 2·(μx² + μy²) = μs² + μd², and likewise for
    the covariance and variances: four filters instead of five, and exactly 1 where x = y. Values are
    centred on zero, as in float32 E[s²] - μs² would cancel at a mean far from it.
    """
    s, d, mean_s, mean_d, var_s, var_d = scratch[:, : len(x)]
    taps = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_32F)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN travels to the sum, and the caller sees it there
        for plane, centred in ((x, mean_s), (y, mean_d)):
            np.subtract(plane, low + PEAK / 2 / scale, out=centred, dtype=np.float32)
            centred *= np.float32(scale)
        np.add(mean_s, mean_d, out=s)
        np.subtract(mean_s, mean_d, out=d)
        for signal, mean, variance in ((s, mean_s, var_s), (d, mean_d, var_d)):
            cv2.sepFilter2D(signal, -1, taps, taps, dst=mean)
            cv2.sepFilter2D(np.square(signal, out=signal), -1, taps, taps, dst=variance)
            variance -= np.square(mean, out=signal)
            np.abs(variance, out=variance)  # rounding alone can bring it below 0

        s, d, mean_s, mean_d, var_s, var_d = scratch[:, _HALO : len(x) - _HALO, _HALO:-_HALO]
        mean_s += np.float32(PEAK)  # of x + y before they were centred
        mean_s *= mean_s
        mean_d *= mean_d
        mean_s += np.float32(2 * _C1)
        var_s += np.float32(2 * _C2)
        luminance, structure = np.subtract(mean_s, mean_d, out=s), np.subtract(var_s, var_d, out=d)
        mean_s += mean_d
        var_s += var_d
        luminance /= mean_s
        structure /= var_s
        luminance *= structure
        return float(cv2.sumElems(luminance)[0])
