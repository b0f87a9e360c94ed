"""torch's bilinear interpolation on the CPU, float for float, for kernels that need only some of its values.

Source: ``aten/src/ATen/native/cpu/UpSampleKernel.cpp``. For each axis, source positions and weights are computed in
float32; a value is the weighted sum over columns, then over rows. Compilers fuse each multiplication with the addition
behind it where the machine can (FMA), so there are two arithmetics. :func:`fused` finds out which is torch's here.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic
from torch.nn.functional import interpolate

from shared.compiled import numba

_SMALL = 128
"""torch takes another kernel, with another order of operations, if height and width add up to no more than this."""

_PROBES = ((30, 30, 97, 161), (30, 30, 1203, 17), (61, 83, 41, 97))
"""Sizes (from, to) that :func:`fused` tries."""


def reproducible(height: int, width: int) -> bool:
    """Whether torch interpolates to this size in the way that is reproduced here."""
    return height + width > _SMALL


@functools.cache
def fused() -> bool | None:
    """Which of the two arithmetics torch has on this machine.

    Returns:
        True with FMA, False without, None for neither: nothing here gives torch's values then.
    """
    rng = np.random.default_rng(0)
    probes = [(rng.random((rows, columns), np.float32), height, width) for rows, columns, height, width in _PROBES]
    wanted = [
        interpolate(torch.from_numpy(plane)[None, None], size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
        for plane, *size in probes
    ]
    for candidate in (True, False):
        found = [enlarged(*probe, candidate) for probe in probes]
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
def enlarged(plane, height, width, fused):  # type: ignore[no-untyped-def]  # pragma: no cover
    """All values: float32 (h, w) to (``height``, ``width``)."""
    y0, y1, top, bottom = taps(plane.shape[0], height, fused)
    x0, x1, left, right = taps(plane.shape[1], width, fused)
    out = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            upper = blend(plane[y0[y], x0[x]], left[x], plane[y0[y], x1[x]], right[x], fused)
            lower = blend(plane[y1[y], x0[x]], left[x], plane[y1[y], x1[x]], right[x], fused)
            out[y, x] = blend(upper, top[y], lower, bottom[y], fused)
    return out
