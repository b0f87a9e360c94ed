"""A picture at the size of the network's input."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from featlink.shared.features import Array

_ROUNDING = 0.02
"""Of a row: more than how far arithmetic in float32 takes a source row from where it is."""


def resized(pixels: npt.NDArray[np.generic], size: tuple[int, int]) -> Array:
    """Resize with torchvision's interpolation: bilinear, half-pixel centres, no antialiasing; not rounded to 8 bits.

    Args:
        pixels: uint8 (3, H, W).
        size: (h, w).

    Returns:
        float32 (3, h, w), in 0..255.
    """
    needed = source_rows(pixels.shape[1], size[0])
    plane = np.empty(pixels.shape[1:], np.float32)  # rows that are not filled take no memory
    out = np.empty((len(pixels), *size), np.float32)
    for channel, target in zip(pixels, out, strict=True):
        plane[needed] = channel[needed]
        cv2.resize(plane, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return out


def source_rows(rows: int, resized: int) -> npt.NDArray[np.int64]:
    """Ascending indices of all rows that resizing ``rows`` of them to ``resized`` may read.

    Example:
        >>> source_rows(12, 3).tolist()
        [1, 2, 5, 6, 9, 10]
    """
    at = (np.arange(resized) + 0.5) * rows / resized - 0.5
    first = np.floor(np.concatenate([at - _ROUNDING, at + _ROUNDING])).astype(np.int64)
    return np.unique(np.clip(np.concatenate([first, first + 1]), 0, rows - 1))
