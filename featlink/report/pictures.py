"""Pictures as part of the page."""

from __future__ import annotations

import base64
import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from featlink.shared.features import Image as Pixels

_QUALITY = 72


def png_pixels(data: bytes) -> Pixels:
    """A PNG file's pixels, uint8 RGB (H, W, 3)."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def shrink(pixels: npt.NDArray[np.uint8], width: int) -> npt.NDArray[Any]:
    """A picture at most ``width`` wide, by averaging; smaller ones stay as they are."""
    if pixels.shape[1] <= width:
        return pixels
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def data_uri(pixels: npt.NDArray[Any]) -> str:
    """A picture as a WebP data URI.

    Args:
        pixels: uint8, RGB (H, W, 3) or grey (H, W).

    Example:
        >>> data_uri(np.zeros((4, 4), np.uint8))[:23]
        'data:image/webp;base64,'
    """
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1]
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()
