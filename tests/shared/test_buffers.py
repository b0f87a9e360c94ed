from __future__ import annotations

import gc

import numpy as np
import torch

from featlink.shared.buffers import BufferPool


def address(buffer: memoryview) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)


def test_memory_in_use_is_never_handed_out_again() -> None:
    pool = BufferPool(keep=2)
    held = []
    for i in range(6):
        array = np.frombuffer(pool.take(1000), np.float32).reshape(10, 25)[2:]
        array[...] = i
        tensor = torch.from_numpy(array)[None, 1:]
        del array
        held.append(tensor)
        gc.collect()
    assert [set(tensor.unique().tolist()) for tensor in held] == [{float(i)} for i in range(6)]
    assert len({tensor.data_ptr() for tensor in held}) == 6


def test_a_slice_of_the_memory_keeps_all_of_it() -> None:
    pool = BufferPool(keep=1)
    part = pool.take(1000)[10:20]
    where = address(part) - 10
    assert address(pool.take(1000)) != where
    del part
    assert address(pool.take(1000)) == where


def test_unused_memory_is_bounded() -> None:
    pool = BufferPool(keep=2)
    buffers = [pool.take(1000) for _ in range(5)]
    del buffers
    assert len(pool._unused) == 2


def test_far_too_large_memory_is_not_used() -> None:
    pool = BufferPool(keep=1)
    where = address(pool.take(10_000))
    assert address(pool.take(10_000)) == where
    small = pool.take(100)
    assert len(small) == 100
    assert address(small) != where
