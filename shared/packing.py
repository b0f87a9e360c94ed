"""Samples and planes: floats to t-bit samples and back (DESIGN 4, the paper's section III-4 and III-5)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from shared.bitstream import Samples, dtype_for
from shared.pyramid import Array

TILES = 16
"""A level's 256 channels fill a 16×16 grid of tiles, channel k at row k div 16, column k mod 16."""


def level_range(level: Array, per: str = "level") -> npt.NDArray[np.float32]:
    """The (m, M) that samples are mapped from.

    Args:
        level: shape (C, H, W).
        per: ``level`` for one pair, ``channel`` for one a channel.

    Returns:
        float32 array (1, 2) or (C, 2).

    Raises:
        ValueError: a value is NaN or infinite.

    Example:
        >>> level_range(np.array([[[1, 3]], [[2, 5]]], np.float32), "channel").tolist()
        [[1.0, 3.0], [2.0, 5.0]]
    """
    rows = level.reshape(1 if per == "level" else level.shape[0], -1)
    ranges = np.stack([rows.min(axis=1), rows.max(axis=1)], axis=1)
    if not np.isfinite(ranges).all():  # min and max carry NaN along
        raise ValueError("features are not finite")
    return ranges


def quantize(level: Array, ranges: npt.NDArray[np.float32], bits: int) -> Samples:
    """Map floats to t-bit samples, q = round((F - m)·(2^t - 1)/(M - m)).

    Args:
        level: shape (C, H, W), within ``ranges``.
        ranges: float32 (1, 2) or (C, 2) of (m, M); where M = m every sample is 0.
        bits: t in 1..16.

    Returns:
        Samples of the same shape, uint8 to 8 bits, uint16 above.
    """
    samples = np.empty(level.shape, dtype_for(bits))
    for (low, high), rows, out in zip(ranges.tolist(), _rows(level, ranges), _rows(samples, ranges), strict=True):
        if high == low:
            out[...] = 0
            continue
        scale = ((1 << bits) - 1) / (high - low)
        if bits <= 8:  # one SIMD pass that multiplies, adds, rounds to nearest and saturates
            cv2.convertScaleAbs(rows, dst=out, alpha=scale, beta=-low * scale)
        else:
            out[...] = np.rint((rows - np.float32(low)) * scale)
    return samples


def dequantize(samples: Samples, ranges: npt.NDArray[np.float32], bits: int) -> Array:
    """Map t-bit samples back, F' = q·(M - m)/(2^t - 1) + m.

    Args:
        samples: shape (C, H, W).
        ranges: as given to :func:`quantize`.
        bits: t in 1..16.

    Returns:
        float32 array of the same shape.
    """
    level = np.empty(samples.shape, np.float32)
    steps = np.arange(1 << bits) / ((1 << bits) - 1)
    for (low, high), rows, out in zip(ranges.tolist(), _rows(samples, ranges), _rows(level, ranges), strict=True):
        table = (steps * (high - low) + low).astype(np.float32)
        if bits <= 8:
            table = np.concatenate([table, np.repeat(table[-1:], 256 - len(table))])
            cv2.LUT(rows, table, dst=out)
        else:
            np.take(table, rows, out=out)
    return level


def tile(level: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Lay the 256 channels of a level out as one plane.

    Args:
        level: shape (256, H, W).

    Returns:
        Shape (16·H, 16·W), contiguous.

    Raises:
        ValueError: not 256 channels.

    Example:
        >>> tile(np.zeros((256, 13, 17), np.uint8)).shape
        (208, 272)
    """
    channels, height, width = level.shape
    if channels != TILES**2:
        raise ValueError(f"packing needs {TILES**2} channels, not {channels}")
    grid = level.reshape(TILES, TILES, height, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid).reshape(TILES * height, TILES * width)


def untile(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Undo :func:`tile`.

    Args:
        plane: shape (16·H, 16·W).

    Returns:
        Shape (256, H, W), contiguous.

    Raises:
        ValueError: a side is not a multiple of 16.
    """
    height, width = plane.shape
    if height % TILES or width % TILES:
        raise ValueError(f"plane of {plane.shape} is not a {TILES}×{TILES} grid")
    grid = plane.reshape(TILES, height // TILES, TILES, width // TILES).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid).reshape(TILES**2, height // TILES, width // TILES)


def _rows(array: npt.NDArray[np.generic], ranges: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
    """View (C, H, W) as one 2-D array per range pair: (1, C, H·W) or (C, H, W)."""
    return array.reshape(1, array.shape[0], -1) if len(ranges) == 1 else array
