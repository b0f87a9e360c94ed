"""COCO's run-length code of a mask that fills a part of its image, without laying out the image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_api

from cloud.coco import DetectionMask


def encode(part: npt.NDArray[np.bool_], top: int, left: int, size: tuple[int, int]) -> DetectionMask:
    """Encode a mask; the result is pycocotools' own for the whole image, to the last character.

    Costs what the part costs, however large the image is.

    Args:
        part: shape (h, w), contiguous, true where the object is; nothing is outside of it.
        top: row of the image where the part begins.
        left: its column.
        size: the image's (height, width).

    Returns:
        Compressed RLE.

    Example:
        >>> encode(np.ones((2, 1), bool), 1, 1, (3, 3))
        {'size': [3, 3], 'counts': '423'}
    """
    height, width = size
    rows = part.shape[0] + 1  # one more, so that a column ends outside the object
    pixels = np.zeros(1 + part.shape[1] * rows, np.uint8)
    if part.size:
        pixels[1:].reshape(-1, rows)[:, :-1] = cv2.transpose(part.view(np.uint8))
    column, row = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), rows)
    changes = (left + column) * height + top + row
    # A run that goes on in the next column ends and begins at one place: that is no change.
    same = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, np.concatenate([same, same + 1]))
    total = height * width
    if changes.size and changes[-1] == total:
        changes = changes[:-1]
    counts = np.diff(changes, prepend=0, append=total)
    encoded = mask_api.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode()}
