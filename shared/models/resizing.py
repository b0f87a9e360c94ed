"""torchvision's normalisation and resizing of a picture, touching only the pixels that the result depends on.

A photo of 48 megapixels as normalised floats would be 576 MB, of which bilinear interpolation to the network's input,
without antialiasing, reads a tenth.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from featlink.shared.compiled import numba
from featlink.shared.features import Image
from featlink.shared.models import bilinear
from featlink.shared.models.bilinear import between, taps


def normalized_and_resized(transform: GeneralizedRCNNTransform, image: Image, resized: tuple[int, int]) -> Tensor:
    """What the transform makes of a picture before padding, bit for bit.

    Args:
        transform: of the network, in evaluation mode.
        image: uint8 RGB (H, W, 3); not copied if its memory is that, or (3, H, W).
        resized: (h, w) that the transform will give.

    Returns:
        float32 (3, h, w).
    """
    fused = bilinear.fused(3)
    levels = torch.arange(256, dtype=torch.uint8).float().div_(255)  # what a pixel can be
    means, stds = (torch.tensor(values) for values in (transform.image_mean, transform.image_std))
    values = levels.sub(means[:, None]).div_(stds[:, None]).numpy()
    if fused is None:
        normalized = np.stack([values[channel][image[..., channel]] for channel in range(3)])
        result: Tensor = transform.resize(torch.from_numpy(normalized))[0]
        return result
    height, width = image.shape[:2]
    planar = image.transpose(2, 0, 1)
    if planar.flags.c_contiguous:
        pixels, strides = planar.reshape(-1).view(), (width, 1, height * width)
    else:
        pixels, strides = np.ascontiguousarray(image).reshape(-1).view(), (3 * width, 3, 1)
    pixels.flags.writeable = False  # some pictures are, and Numba would compile for both
    out = np.empty((3, *resized), np.float32)
    _resize(pixels, strides, height, width, values, fused, bilinear.by_corners(3, *resized), out)
    return torch.from_numpy(out)


@numba.njit(nogil=True, cache=True)
def _resize(pixels, strides, height, width, values, fused, by_corners, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    y0, y1, top, bottom = taps(height, out.shape[1], fused)
    x0, x1, left, right = taps(width, out.shape[2], fused)
    row_step, column_step, channel_step = strides
    for channel in range(3):
        value = values[channel]
        for y in range(out.shape[1]):
            upper_row = y0[y] * row_step + channel * channel_step
            lower_row = y1[y] * row_step + channel * channel_step
            for x in range(out.shape[2]):
                first, second = x0[x] * column_step, x1[x] * column_step
                a, b = value[pixels[upper_row + first]], value[pixels[upper_row + second]]
                c, d = value[pixels[lower_row + first]], value[pixels[lower_row + second]]
                out[channel, y, x] = between(a, b, c, d, left[x], right[x], top[y], bottom[y], fused, by_corners)
