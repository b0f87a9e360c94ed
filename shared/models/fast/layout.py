"""From channels-first memory to channels-last and back, in reused memory; torch's own copy takes twice the time."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featlink.shared.buffers import BufferPool
from featlink.shared.compiled import numba

_ROWS = 32
"""Of the result, written at once: 128 bytes of each, which fill whole cache lines."""

_buffers = BufferPool(keep=12)
_pool = ThreadPoolExecutor(thread_name_prefix="layout")


def channels_last(x: Tensor) -> Tensor:
    """The same values in channels-last memory.

    Args:
        x: float32 (1, C, H, W) in either layout.

    Example:
        >>> x = torch.rand(1, 3, 5, 7)
        >>> torch.equal(channels_last(x), x), channels_last(x).is_contiguous(memory_format=torch.channels_last)
        (True, True)
    """
    if x.is_contiguous(memory_format=torch.channels_last):
        return x
    _, channels, height, width = x.shape
    return _transposed(x.contiguous().view(channels, -1)).view(1, height, width, channels).permute(0, 3, 1, 2)


def channels_first(x: Tensor) -> Tensor:
    """The same values in channels-first memory.

    Args:
        x: float32 (1, C, H, W) in either layout.

    Example:
        >>> x = torch.rand(1, 5, 7, 3).permute(0, 3, 1, 2)
        >>> torch.equal(channels_first(x), x), channels_first(x).is_contiguous()
        (True, True)
    """
    if x.is_contiguous():
        return x
    return _transposed(x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])).view(x.shape)


def _transposed(matrix: Tensor) -> Tensor:
    """A matrix the other way round, a share of its rows by each thread that torch may use."""
    rows, columns = matrix.shape
    out: npt.NDArray[Any] = np.frombuffer(_buffers.take(4 * rows * columns), np.float32).reshape(columns, rows)
    threads = torch.get_num_threads()
    bounds = np.linspace(0, -(-rows // _ROWS), threads + 1).astype(int) * _ROWS
    jobs = [
        _pool.submit(_transpose, first, min(last, rows), matrix.numpy(), out)
        for first, last in itertools.pairwise(bounds.tolist())
    ]
    for job in jobs:
        job.result()
    return torch.from_numpy(out)


@numba.njit(nogil=True, cache=True)
def _transpose(first, last, matrix, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Rows ``first`` to ``last`` of the matrix to columns of the result."""
    for start in range(first, last, _ROWS):
        for column in range(matrix.shape[1]):
            for row in range(start, min(start + _ROWS, last)):
                out[column, row] = matrix[row, column]
