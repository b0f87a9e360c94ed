"""Interpolate as torch does on the CPU, float for float, but only where a result is needed.

Source: ``aten/src/ATen/native/cpu/UpSampleKernel.cpp``. For each axis, source positions and weights are computed in
float32. torch has two orders of operations: columns are weighted first, then rows; or each of the four corners by the
product of its weights. Compilers fuse multiplications with the additions behind them where the machine can (FMA).
:func:`fused` finds out whether they did, by comparing with torch.

A photo of 48 megapixels as normalised floats would be 576 MB, of which interpolation to the network's input, without
antialiasing, reads a tenth.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from featlink.shared.compiled import numba
from featlink.shared.features import Image

_SMALL = 128
_COLOURS = 3
_PROBES = ((30, 30, 97, 161), (30, 30, 1203, 17), (61, 83, 41, 97), (61, 83, 40, 50))
"""Sizes (from, to) that :func:`fused` tries."""


def by_corners(channels: int, height: int, width: int) -> bool:
    """Which order of operations torch chooses to interpolate to this size: whether each corner has a weight.

    That depends on torch's threads, too.
    """
    return height + width <= _SMALL or (channels == _COLOURS and torch.get_num_threads() == 1)


def fused(channels: int = 1) -> bool | None:
    """Whether torch has fused multiplications with additions on this machine.

    Args:
        channels: of what is to be interpolated.

    Returns:
        True with FMA, False without, None if torch computes otherwise: nothing here gives its values then.
    """
    return _fused(channels, torch.get_num_threads())


@functools.cache
def _fused(channels: int, _threads: int) -> bool | None:
    rng = np.random.default_rng(0)
    probes = [(rng.random((channels, rows, columns), np.float32), size) for rows, columns, *size in _PROBES]
    wanted = [
        interpolate(torch.from_numpy(planes)[None], size=size, mode="bilinear", align_corners=False)[0].numpy()
        for planes, size in probes
    ]
    for candidate in (True, False):
        found = [
            [enlarged(plane, height, width, candidate, by_corners(channels, height, width)) for plane in planes]
            for planes, (height, width) in probes
        ]
        if all(np.array_equal(mine, torchs) for mine, torchs in zip(found, wanted, strict=True)):
            return candidate
    return None


def _typed_fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once, of float32: the processor's instruction, or the C library's function."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


_fma: Any = intrinsic(_typed_fma)


@numba.njit(nogil=True, cache=True)
def blend(a, weight_a, b, weight_b, fused):  # type: ignore[no-untyped-def]  # pragma: no cover
    """a·weight_a + b·weight_b as torch rounds it; all float32."""
    return _fma(a, weight_a, b * weight_b) if fused else a * weight_a + b * weight_b


@numba.njit(nogil=True, cache=True)
def taps(size, resized, fused):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The two source lines of each line of the result, and their weights.

    Args:
        size: rows, or columns, of the source.
        resized: of the result.
        fused: see :func:`fused`.

    Returns:
        int64 first and second line, float32 their weights, each (``resized``,).
    """
    first, second = np.empty(resized, np.int64), np.empty(resized, np.int64)
    weight_first, weight_second = np.empty(resized, np.float32), np.empty(resized, np.float32)
    scale, half = np.float32(size) / np.float32(resized), np.float32(0.5)
    for line in range(resized):
        if resized == size:
            first[line] = second[line] = line
            weight_first[line], weight_second[line] = 1, 0
            continue
        middle = np.float32(line) + half
        at = max(_fma(scale, middle, -half) if fused else scale * middle - half, np.float32(0))
        low = min(int(at), size - 1)
        first[line], second[line] = low, min(low + 1, size - 1)
        weight_second[line] = min(max(at - np.float32(low), np.float32(0)), np.float32(1))
        weight_first[line] = np.float32(1) - weight_second[line]
    return first, second, weight_first, weight_second


@numba.njit(nogil=True, cache=True)
def between(a, b, c, d, left, right, top, bottom, fused, by_corners):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The value between a and b, above c and d, of columns and rows with these weights; all float32."""
    if not by_corners:
        return blend(blend(a, left, b, right, fused), top, blend(c, left, d, right, fused), bottom, fused)
    upper = blend(a, top * left, b, top * right, fused)
    if fused:
        return _fma(bottom * right, d, _fma(bottom * left, c, upper))
    return upper + bottom * left * c + bottom * right * d


@numba.njit(nogil=True, cache=True)
def enlarged(plane, height, width, fused, by_corners):  # type: ignore[no-untyped-def]  # pragma: no cover
    """All values: float32 (h, w) to (``height``, ``width``)."""
    y0, y1, top, bottom = taps(plane.shape[0], height, fused)
    x0, x1, left, right = taps(plane.shape[1], width, fused)
    out = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            a, b, c, d = plane[y0[y], x0[x]], plane[y0[y], x1[x]], plane[y1[y], x0[x]], plane[y1[y], x1[x]]
            out[y, x] = between(a, b, c, d, left[x], right[x], top[y], bottom[y], fused, by_corners)
    return out


def normalized_and_resized(transform: GeneralizedRCNNTransform, image: Image, resized: tuple[int, int]) -> Tensor:
    """What the transform makes of a picture before padding, bit for bit.

    Args:
        transform: of the network, in evaluation mode.
        image: uint8 RGB (H, W, 3); not copied if its memory is that, or (3, H, W).
        resized: (h, w) that the transform will give.

    Returns:
        float32 (3, h, w).
    """
    is_fused = fused(3)
    levels = torch.arange(256, dtype=torch.uint8).float().div_(255)  # what a pixel can be
    means, stds = (torch.tensor(values) for values in (transform.image_mean, transform.image_std))
    values = levels.sub(means[:, None]).div_(stds[:, None]).numpy()
    if is_fused is None:
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
    _resize(pixels, strides, height, width, values, is_fused, by_corners(3, *resized), out)
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
