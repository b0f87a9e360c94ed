"""Pictures beside one another with a caption each, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from featlink.shared.features import Image

_GAP = 8
_CAPTION = 26
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def sheet(rows: Sequence[Sequence[tuple[str, npt.NDArray[Any]]]]) -> Image:
    """Lay captioned pictures out on white, row by row.

    Args:
        rows: (caption, picture), uint8 RGB (H, W, 3) or grey (H, W).

    Returns:
        uint8 RGB.
    """
    bands = [_band(row) for row in rows]
    width = max(band.shape[1] for band in bands)
    return np.concatenate(
        [np.pad(band, ((0, 0), (0, width - band.shape[1]), (0, 0)), constant_values=255) for band in bands]
    )


def _band(row: Sequence[tuple[str, npt.NDArray[Any]]]) -> Image:
    height = max(picture.shape[0] for _, picture in row)
    cells = []
    for caption, picture in row:
        pixels = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        width = max(pixels.shape[1], cv2.getTextSize(caption, _FONT, 0.5, 1)[0][0] + 2)
        cell = np.full((height + _CAPTION + _GAP, width + _GAP, 3), 255, np.uint8)
        cell[_CAPTION : _CAPTION + pixels.shape[0], : pixels.shape[1]] = pixels
        cv2.putText(cell, caption, (1, _CAPTION - 9), _FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cell)
    return np.concatenate(cells, axis=1)
