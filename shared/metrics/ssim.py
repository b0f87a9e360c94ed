"""Structural similarity of planes (Wang, Bovik, Sheikh and Simoncelli, 2004), fast and in little memory.

The paper's settings: Gaussian window of 11 pixels and σ 1.5, K1 = 0.01, K2 = 0.03, data range 255,
population variances, averaged over the positions where the whole window lies inside the plane. So it
equals ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False, data_range=255)``.

The planes are processed in strips of rows that fit the caches, in as many threads as OpenCV may use
(``cv2.setNumThreads``), by loops that Numba compiles: whole-array operations would spend more time moving
intermediate planes than computing.
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

from featlink.shared.compiled import numba
from featlink.shared.features import Array
from featlink.shared.frames.packing import grid, tile

Plane = npt.NDArray[np.integer[Any] | np.floating[Any]]

WINDOW = 11
SIGMA = 1.5
PEAK = 255.0
C1 = (0.01 * PEAK) ** 2
C2 = (0.03 * PEAK) ** 2
"""The constants that keep quotients of small means and variances away from 0 / 0."""
_HALO = WINDOW // 2
_STRIP = 1 << 16
"""Pixels per strip: many compared with the ten further rows the windows reach into, few enough for the caches."""

_BLOCK = 256
"""Columns processed at once."""
TAPS = tuple(cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_32F)[: _HALO + 1, 0])
"""Of the window, from its edge to its middle."""

_Strips = Callable[[list[slice]], Iterator[tuple[Array, Array]]]
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
    return _plane_ssim(reference, distorted, low=0.0, scale=1.0)


def _plane_ssim(reference: Plane, distorted: Plane, low: float, scale: float) -> float:
    if min(reference.shape) < WINDOW:
        reference, distorted = np.pad(reference, _HALO, "symmetric"), np.pad(distorted, _HALO, "symmetric")

    def strips(spans: list[slice]) -> Iterator[tuple[Array, Array]]:
        for rows in spans:
            yield np.ascontiguousarray(reference[rows], np.float32), np.ascontiguousarray(distorted[rows], np.float32)

    height, width = reference.shape
    return _mean_ssim(strips, height, width, low, scale)


def level_ssim(reference: Array, distorted: Array, low: float, scale: float) -> float:
    """Mean structural similarity of the planes that two levels tile to (see ``tile``).

    The planes themselves are never made: their rows are gathered from the channels as they are needed.

    Args:
        reference: shape (C, H, W).
        distorted: same shape.
        low: the value that maps to 0.
        scale: units of 0..255 per unit of the features; both levels become (F - low)·scale, unclipped.

    Returns:
        SSIM in [-1, 1], exactly 1 for equal levels.

    Raises:
        ValueError: the shapes differ; a value is not finite.

    Example:
        >>> level = np.random.default_rng(0).random((256, 2, 3), np.float32)
        >>> level_ssim(level, level, low=0.0, scale=255.0)
        1.0
    """
    if reference.shape != distorted.shape or reference.ndim != 3 or not reference.size:
        raise ValueError(f"SSIM needs two levels of one shape, not {reference.shape} and {distorted.shape}")
    rows, columns = grid(len(reference))
    if rows * columns > len(reference) or min(rows * reference.shape[1], columns * reference.shape[2]) < WINDOW:
        return _plane_ssim(tile(reference), tile(distorted), low, scale)
    x_tiles, y_tiles = (level.reshape(rows, columns, *level.shape[1:]) for level in (reference, distorted))
    height, width = x_tiles.shape[2:]

    def strips(spans: list[slice]) -> Iterator[tuple[Array, Array]]:
        x, y = np.empty((2, spans[0].stop - spans[0].start, columns * width), np.float32)
        for span in spans:
            yield _gather(x_tiles, span, x), _gather(y_tiles, span, y)

    return _mean_ssim(strips, rows * height, columns * width, low, scale)


def _gather(level: Array, rows: slice, buffer: Array) -> Array:
    """Copy rows of the plane that (rows, columns, H, W) tiles make into the top of a buffer of the plane's width."""
    _, columns, height, width = level.shape
    out = buffer[: rows.stop - rows.start]
    tiles = out.reshape(-1, columns, width)
    for tile_row in range(rows.start // height, -(-rows.stop // height)):
        offset = tile_row * height
        start, stop = max(rows.start, offset), min(rows.stop, offset + height)
        part = level[tile_row, :, start - offset : stop - offset]
        tiles[start - rows.start : stop - rows.start] = part.swapaxes(0, 1)
    return out


def _mean_ssim(strips: _Strips, height: int, width: int, low: float, scale: float) -> float:
    """Average SSIM over the positions where the window fits."""
    last, step = height - 2 * _HALO, max(_STRIP // width, 2 * WINDOW)
    spans = [slice(start, min(start + step, last) + 2 * _HALO) for start in range(0, last, step)]
    threads = min(cv2.getNumThreads(), len(spans))
    # Values are centred on zero, as in float32 E[s²] - μs² would cancel at a mean far from it.
    middle, unit = np.float32(low + PEAK / 2 / scale), np.float32(scale)

    @np.errstate(over="ignore")  # an infinity travels to the sum, and is seen there
    def share(spans: list[slice]) -> list[float]:
        return [_strip_sum(x, y, middle, unit, TAPS) for x, y in strips(spans)]

    with ThreadPoolExecutor(threads) as pool:
        sums = itertools.chain.from_iterable(pool.map(share, (spans[first::threads] for first in range(threads))))
        mean = math.fsum(sums) / (last * (width - 2 * _HALO))  # an exact sum, so that threads change nothing
    if not math.isfinite(mean):
        raise ValueError("SSIM is undefined: a value is not finite, or too large")
    return mean


# The innermost loops have one store each, index whole arrays and ask for no ZeroDivisionError: LLVM vectorises them so.
@numba.njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _strip_sum(x, y, middle, scale, taps):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sum SSIM over the positions where the window fits into a strip of float32 rows.

    With s = x + y and d = x - y, 4·μx·μy = μs² - μd² and 2·(μx² + μy²) = μs² + μd², and likewise for the covariance
    and variances: four filters instead of five, and exactly 1 where x = y. Columns are processed in blocks, so that
    the eleven rows under a window stay in the first level of the cache.
    """
    rows, width = x.shape
    s = np.empty((rows, _BLOCK + 2 * _HALO), np.float32)
    d = np.empty((rows, _BLOCK + 2 * _HALO), np.float32)
    column = np.empty(_BLOCK + 2 * _HALO, np.float32)
    mean_s, mean_d = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    square_s, square_d = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    total = np.zeros(_BLOCK, np.float64)
    peak, c1, c2 = np.float32(PEAK), np.float32(2 * C1), np.float32(2 * C2)
    for left in range(0, width - 2 * _HALO, _BLOCK):
        count = min(_BLOCK, width - 2 * _HALO - left)
        for row in range(rows):
            # Slices, whose indices cannot be negative: LLVM would gather the values of x[row, left + c] one by one.
            a, b = x[row, left : left + count + 2 * _HALO], y[row, left : left + count + 2 * _HALO]
            for c in range(count + 2 * _HALO):
                s[row, c] = (a[c] - middle) * scale + (b[c] - middle) * scale
            for c in range(count + 2 * _HALO):
                d[row, c] = (a[c] - middle) * scale - (b[c] - middle) * scale
        for row in range(rows - 2 * _HALO):
            for signal, mean, square in ((s, mean_s, square_s), (d, mean_d, square_d)):
                _down(signal, row, count + 2 * _HALO, taps, column)
                _across(column, count, taps, mean)
                _down_squared(signal, row, count + 2 * _HALO, taps, column)
                _across(column, count, taps, square)
            for c in range(count):
                ms, md = mean_s[c] * mean_s[c], mean_d[c] * mean_d[c]
                # Rounding alone can bring a variance below 0.
                vs, vd = abs(square_s[c] - ms), abs(square_d[c] - md)
                ms = (mean_s[c] + peak) ** 2  # of x + y before they were centred
                total[c] += (ms - md + c1) / (ms + md + c1) * ((vs - vd + c2) / (vs + vd + c2))
    return total.sum()


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _down(plane, row, count, taps, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The window's vertical pass over ``WINDOW`` rows from ``row`` on; taps are symmetric."""
    t0, t1, t2, t3, t4, t5 = taps
    for c in range(count):
        out[c] = (
            t0 * (plane[row, c] + plane[row + 10, c])
            + t1 * (plane[row + 1, c] + plane[row + 9, c])
            + t2 * (plane[row + 2, c] + plane[row + 8, c])
            + t3 * (plane[row + 3, c] + plane[row + 7, c])
            + t4 * (plane[row + 4, c] + plane[row + 6, c])
            + t5 * plane[row + 5, c]
        )


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _down_squared(plane, row, count, taps, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    t0, t1, t2, t3, t4, t5 = taps
    for c in range(count):
        out[c] = (
            t0 * (plane[row, c] ** 2 + plane[row + 10, c] ** 2)
            + t1 * (plane[row + 1, c] ** 2 + plane[row + 9, c] ** 2)
            + t2 * (plane[row + 2, c] ** 2 + plane[row + 8, c] ** 2)
            + t3 * (plane[row + 3, c] ** 2 + plane[row + 7, c] ** 2)
            + t4 * (plane[row + 4, c] ** 2 + plane[row + 6, c] ** 2)
            + t5 * plane[row + 5, c] ** 2
        )


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _across(line, count, taps, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The window's horizontal pass."""
    t0, t1, t2, t3, t4, t5 = taps
    for c in range(count):
        out[c] = (
            t0 * (line[c] + line[c + 10])
            + t1 * (line[c + 1] + line[c + 9])
            + t2 * (line[c + 2] + line[c + 8])
            + t3 * (line[c + 3] + line[c + 7])
            + t4 * (line[c + 4] + line[c + 6])
            + t5 * line[c + 5]
        )
