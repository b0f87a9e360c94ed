"""torchvision's normalisation and resizing of a large picture, touching only the pixels that the result depends on.

Bilinear interpolation without antialiasing reads two rows of the picture for each row of the result, and two columns
for each column. A photo of 48 megapixels has 6000 rows, of which the 800 of the network's input need 1600.
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
"""Share of the pixels that is needed at most, lest picking them out costs more than it saves."""

_ROUNDING = 0.02
"""Of a line: more than how far float32 arithmetic, as in torch, takes a source line from where it is."""


def normalized_and_resized(transform: GeneralizedRCNNTransform, image: Image, resized: tuple[int, int]) -> Tensor:
    """What the transform makes of a picture before padding, bit for bit.

    Args:
        transform: of the network, in evaluation mode.
        image: uint8 RGB (H, W, 3).
        resized: (h, w) that the transform will give.

    Returns:
        float32 (3, h, w).
    """
    height, width = image.shape[:2]
    rows, columns = source_lines(height, resized[0]), source_lines(width, resized[1])
    some = len(rows) * len(columns) < _WORTH_IT * height * width
    needed = np.take(image[rows], columns, axis=1) if some else image
    picture = np.empty((3, height, width), np.float32)  # pages that are not filled take no memory
    for channel, plane in enumerate(cv2.split(needed)):
        mean, std = (torch.tensor(values[channel]) for values in (transform.image_mean, transform.image_std))
        normalized = torch.from_numpy(plane).float().div_(255).sub_(mean).div_(std).numpy()
        if some:
            picture[channel][np.ix_(rows, columns)] = normalized
        else:
            picture[channel] = normalized
    result: Tensor = transform.resize(torch.from_numpy(picture))[0]  # all at once: one by one, torch rounds otherwise
    return result


def source_lines(lines: int, resized: int) -> npt.NDArray[np.int64]:
    """Ascending indices of all rows, or columns, that resizing ``lines`` of them to ``resized`` may read.

    Example:
        >>> source_lines(12, 3).tolist()
        [1, 2, 5, 6, 9, 10]
    """
    at = (np.arange(resized) + 0.5) * lines / resized - 0.5
    first = np.floor(np.concatenate([at - _ROUNDING, at + _ROUNDING])).astype(np.int64)
    return np.unique(np.clip(np.concatenate([first, first + 1]), 0, lines - 1))
