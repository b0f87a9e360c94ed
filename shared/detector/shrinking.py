"""torchvision's normalisation and resizing of a large picture, touching only the pixels that the result depends on.

Bilinear interpolation without antialiasing reads two rows of the picture for each row of the result. A photo of 48
megapixels has 6000 rows, of which the 800 of the network's input need 1600.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from shared.frames.pyramid import Image

_WORTH_IT = 0.5
"""Share of the rows that is needed at most, lest picking them out costs more than it saves."""

_AT_ONCE = 128  # rows: little enough for the caches

_ROUNDING = 0.02
"""Of a row: more than how far float32 arithmetic, as in torch, takes a source row from where it is."""


def normalized_and_resized(transform: GeneralizedRCNNTransform, image: Image, resized: tuple[int, int]) -> Tensor:
    """What the transform makes of a picture before padding, bit for bit.

    Args:
        transform: of the network, in evaluation mode.
        image: uint8 RGB (H, W, 3).
        resized: (h, w) that the transform will give.

    Returns:
        float32 (3, h, w).
    """
    rows = source_rows(len(image), resized[0])
    if len(rows) > _WORTH_IT * len(image):
        rows = np.arange(len(image))
    picture = np.empty((3, *image.shape[:2]), np.float32)  # rows that are not filled take no memory
    for channel, plane in enumerate(cv2.split(image)):
        mean, std = (torch.tensor(values[channel]) for values in (transform.image_mean, transform.image_std))
        for start in range(0, len(rows), _AT_ONCE):
            end = start + _AT_ONCE
            some: slice | npt.NDArray[np.int64] = slice(start, end) if len(rows) == len(image) else rows[start:end]
            part = torch.from_numpy(plane[some]).float().div_(255).sub_(mean).div_(std)
            picture[channel, some] = part.numpy()
    result: Tensor = transform.resize(torch.from_numpy(picture))[0]
    return result


def source_rows(rows: int, resized: int) -> npt.NDArray[np.int64]:
    """Ascending indices of all rows that resizing ``rows`` to ``resized`` may read.

    Example:
        >>> source_rows(12, 3).tolist()
        [1, 2, 5, 6, 9, 10]
    """
    at = (np.arange(resized) + 0.5) * rows / resized - 0.5
    first = np.floor(np.concatenate([at - _ROUNDING, at + _ROUNDING])).astype(np.int64)
    return np.unique(np.clip(np.concatenate([first, first + 1]), 0, rows - 1))
