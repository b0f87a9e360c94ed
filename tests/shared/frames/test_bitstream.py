"""Dense streams against the definition in Python's big integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink.shared.errors import FrameError
from featlink.shared.frames.bitstream import dtype_for, nbytes, pack, unpack

BITS = st.integers(1, 16)


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    bits = draw(BITS)
    values = draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))
    return np.array(values, dtype_for(bits)), bits


def dense(values: list[int], bits: int) -> bytes:
    """The first sample in the lowest bits of one long little-endian number."""
    number = sum(value << (bits * index) for index, value in enumerate(values))
    return number.to_bytes(-(-bits * len(values) // 8), "little")


def reference(values: list[int], bits: int) -> bytes:
    if bits == 16:
        return b"".join(value.to_bytes(2, "little") for value in values)
    if bits <= 8:
        return dense(values, bits)
    return bytes(value & 255 for value in values) + dense([value >> 8 for value in values], bits - 8)


@given(streams())
def test_the_stream_is_the_documented_one(stream: tuple[np.ndarray, int]) -> None:
    samples, bits = stream
    packed = pack(samples, bits)
    assert packed.tobytes() == reference(samples.tolist(), bits)
    assert packed.nbytes == nbytes(samples.size, bits)


@given(streams())
def test_unpack_undoes_pack(stream: tuple[np.ndarray, int]) -> None:
    samples, bits = stream
    back = unpack(pack(samples, bits), bits, samples.size)
    assert back.dtype == dtype_for(bits)
    np.testing.assert_array_equal(back, samples)


@given(BITS, st.integers(0, 1000))
def test_nbytes_is_the_bits_rounded_up(bits: int, count: int) -> None:
    assert nbytes(count, bits) == -(-count * bits // 8)


@pytest.mark.parametrize("bits", range(1, 17))
def test_a_stream_is_one_buffer_that_can_be_sent(bits: int) -> None:
    assert pack(np.zeros(100, dtype_for(bits)), bits).flags.c_contiguous


@pytest.mark.parametrize("bits", [8, 16])
def test_whole_bytes_are_not_copied(bits: int) -> None:
    samples = np.arange(100, dtype=dtype_for(bits))
    packed = pack(samples, bits)
    assert np.shares_memory(packed, samples)
    assert np.shares_memory(unpack(packed, bits, 100), samples)


@pytest.mark.parametrize("bits", [bits for bits in range(1, 16) if bits % 8])
def test_a_sample_beyond_its_bits_is_refused(bits: int) -> None:
    samples = np.array([0, 1 << bits], dtype_for(bits))
    with pytest.raises(FrameError, match=f"does not fit into {bits} bits"):
        pack(samples, bits)


@pytest.mark.parametrize("bits", [bits for bits in range(1, 16) if bits % 8])
def test_unused_last_bits_must_be_zero(bits: int) -> None:
    packed = pack(np.zeros(1, dtype_for(bits)), bits).copy()
    unpack(packed, bits, 1)
    packed[-1] |= 0x80
    with pytest.raises(FrameError, match="unused bits"):
        unpack(packed, bits, 1)


@given(BITS, st.integers(0, 50), st.integers(0, 100))
def test_a_wrong_length_is_refused(bits: int, count: int, size: int) -> None:
    if size == nbytes(count, bits):
        return
    with pytest.raises(FrameError, match=f"{count} samples of {bits} bits take"):
        unpack(np.zeros(size, np.uint8), bits, count)


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint16), (9, np.uint8), (4, np.int8), (16, np.float32)])
def test_another_dtype_is_refused(bits: int, dtype: type) -> None:
    with pytest.raises(FrameError, match=f"{bits}-bit samples must be"):
        pack(np.zeros(4, dtype), bits)


@pytest.mark.parametrize("bits", [-1, 0, 17, 2**63])
def test_a_bit_depth_outside_1_to_16_is_refused(bits: int) -> None:
    with pytest.raises(FrameError, match=f"bit depth {bits} is outside"):
        dtype_for(bits)
