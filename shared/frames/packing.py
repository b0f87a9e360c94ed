"""Samples and planes: floats to t-bit samples and back (the paper's sections III-4 and III-5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from featlink.shared.features import Array
from featlink.shared.frames.bitstream import Samples, dtype_for

_BLOCK = 1 << 16
_TINY = 1e-30  # 255 / _TINY still is a float32


def level_range(level: Array, per: str = "level") -> npt.NDArray[np.float32]:
    """The (m, M) that samples are mapped from.

    Args:
        level: shape (C, H, W).
        per: ``level`` for one pair, ``channel`` for one per channel.

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
        # float32 does for 8 bits, unless the range is a small part of the values: -low·scale would cancel
        if bits <= 8 and high - low > max(-low, high, _TINY) / 8:
            # one SIMD pass that multiplies, adds, rounds to nearest and saturates
            cv2.convertScaleAbs(rows, dst=out, alpha=scale, beta=-low * scale)
        else:
            _quantize_exactly(rows, low, scale, out)
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


def grid(channels: int) -> tuple[int, int]:
    """Rows and columns of the grid that this many channels are laid out in: 16×16 for 256.

    The smallest number of columns from the square root to its double that leaves no tile empty; if there is none, the
    square root rounded up.

    Example:
        >>> grid(256), grid(128), grid(7)
        ((16, 16), (8, 16), (3, 3))
    """
    least = math.isqrt(channels - 1) + 1
    columns = next((n for n in range(least, 2 * least + 1) if channels % n == 0), least)
    return -(-channels // columns), columns


def tile(level: npt.NDArray[Any], columns: int | None = None) -> npt.NDArray[Any]:
    """Lay channels out as one plane, channel k at row k div columns, column k mod columns.

    Args:
        level: shape (C, H, W).
        columns: tiles side by side; default: as :func:`grid` has it, 16 for 256 channels.

    Returns:
        Shape (ceil(C/columns)·H, columns·W), contiguous. Tiles that no channel fills are flat, as the last channel's
        last sample, so that a codec spends next to nothing on them.

    Example:
        >>> tile(np.zeros((256, 13, 17), np.uint8)).shape
        (208, 272)
    """
    channels, height, width = level.shape
    columns = columns or grid(channels)[1]
    rows = -(-channels // columns)
    if missing := rows * columns - channels:
        level = np.concatenate([level, np.full((missing, height, width), level[-1, -1, -1])])
    tiles = level.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiles).reshape(rows * height, columns * width)


def untile(plane: npt.NDArray[Any], channels: int, columns: int | None = None) -> npt.NDArray[Any]:
    """Undo :func:`tile`.

    Args:
        plane: shape (ceil(channels/columns)·H, columns·W).
        channels: of the level.
        columns: as given to :func:`tile`.

    Returns:
        Shape (channels, H, W), contiguous.

    Raises:
        ValueError: the plane is not such a grid.
    """
    height, width = plane.shape
    columns = columns or grid(channels)[1]
    rows = -(-channels // columns)
    if height % rows or width % columns:
        raise ValueError(f"plane of {plane.shape} is not a grid of {rows}×{columns} tiles")
    tiles = plane.reshape(rows, height // rows, columns, width // columns).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiles).reshape(rows * columns, height // rows, width // columns)[:channels]


def stack(levels: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Lay all levels out as one plane, one under the other, so that they are about equally wide.

    The n-th has 2ⁿ times the columns of its :func:`grid`: of 256 channels, p2 has 16 columns, p3 32, and so on.

    Args:
        levels: name to (C, H, W), finest first, each half the size of the one before (rounded up).

    Returns:
        One plane as wide as the widest grid; narrower ones are extended by their last column.

    Example:
        >>> stack({"p2": np.zeros((256, 8, 12), np.uint8), "p3": np.zeros((256, 4, 6), np.uint8)}).shape
        (160, 192)
    """
    planes = [tile(level, grid(len(level))[1] << i) for i, level in enumerate(levels.values())]
    width = max(plane.shape[1] for plane in planes)
    return np.concatenate([np.pad(plane, ((0, 0), (0, width - plane.shape[1])), "edge") for plane in planes])


def unstack(plane: npt.NDArray[Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[Any]]:
    """Undo :func:`stack`.

    Args:
        plane: the stacked plane.
        shapes: name to (C, H, W), in the order they were stacked.
    """
    levels: dict[str, npt.NDArray[Any]] = {}
    top = 0
    for i, (name, (channels, height, width)) in enumerate(shapes.items()):
        columns = grid(channels)[1] << i
        bottom = top + -(-channels // columns) * height
        levels[name] = untile(plane[top:bottom, : columns * width], channels, columns)
        top = bottom
    return levels


def _quantize_exactly(rows: npt.NDArray[Any], low: float, scale: float, out: npt.NDArray[Any]) -> None:
    """In float64, some rows at a time: new memory for a whole level would cost more than the arithmetic."""
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        block = np.subtract(rows[start : start + step], low, dtype=np.float64)
        block *= scale
        out[start : start + step] = np.rint(block, out=block)


def _rows(array: npt.NDArray[np.generic], ranges: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
    """View (C, H, W) as one 2-D array per range pair: (1, C, H·W) or (C, H, W)."""
    return array.reshape(1, array.shape[0], -1) if len(ranges) == 1 else array
