"""Pictures turned as their EXIF orientation says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from featlink.shared.features import Image

_TURNS: dict[int, Callable[[Image], Any]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.flip(image, -1),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.flip(cv2.transpose(image), -1),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def turned(image: Image, orientation: int) -> Image:
    """Turn a picture upright.

    Args:
        image: uint8 (H, W, 3) as it is stored.
        orientation: EXIF's, 2 to 8.

    Example:
        >>> turned(np.zeros((2, 3, 3), np.uint8), 6).shape
        (3, 2, 3)
    """
    return np.asarray(_TURNS[orientation](image))
