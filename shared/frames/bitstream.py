"""Dense t-bit streams: n samples of t bits in ceil(n·t/8) bytes, so that bits on the wire are honest.

Samples of 8 and 16 bits are stored as they are. Below 8 bits, eight samples fill t bytes, the first
sample in the lowest bits. From 9 to 15 bits the low bytes come first, then the dense stream of the
(t - 8)-bit high parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featlink.shared.errors import FrameError

U8 = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.unsignedinteger[Any]]
"""uint8 to 8 bits, uint16 to 16: see :func:`dtype_for`."""

_BLOCK = 1 << 18
"""Samples packed at once, a multiple of 8: what lies between stays in the caches."""


def dtype_for(bits: int) -> np.dtype[np.generic]:
    """The dtype that holds t-bit samples: uint8 to t = 8, uint16 to t = 16.

    Raises:
        FrameError: ``bits`` is not in 1..16.

    Example:
        >>> dtype_for(10).name
        'uint16'
    """
    if not 1 <= bits <= 16:
        raise FrameError(f"bit depth {bits} is outside 1..16")
    return np.dtype("<u1" if bits <= 8 else "<u2")


def nbytes(count: int, bits: int) -> int:
    """Bytes that ``count`` samples of ``bits`` bits take.

    Example:
        >>> nbytes(5, 4)
        3
    """
    if bits <= 8:
        return -(-count * bits // 8)
    return 2 * count if bits == 16 else count + nbytes(count, bits - 8)


def pack(samples: Samples, bits: int) -> U8:
    """Pack samples densely.

    Args:
        samples: shape (n,), each in 0..2**bits - 1, of ``dtype_for(bits)``.
        bits: 1..16.

    Returns:
        uint8 array (nbytes(n, bits),); a view for 8 and 16 bits.

    Raises:
        FrameError: wrong dtype, or a sample beyond ``bits`` bits.

    Example:
        >>> pack(np.array([1, 2, 3], np.uint8), 4).tolist()
        [33, 3]
    """
    if samples.dtype != dtype_for(bits):
        raise FrameError(f"{bits}-bit samples must be {dtype_for(bits).name}, not {samples.dtype.name}")
    if bits in (8, 16):
        return samples.view(np.uint8)
    if samples.size and int(samples.max()) >> bits:
        raise FrameError(f"a sample does not fit into {bits} bits")
    if bits > 8:
        low, high = samples.astype(np.uint8), (samples >> np.uint16(8)).astype(np.uint8)
        return np.concatenate([low, pack(high, bits - 8)])
    return _pack_bytes(samples.view(np.uint8), bits)


def unpack(packed: U8, bits: int, count: int) -> Samples:
    """Undo :func:`pack`.

    Args:
        packed: uint8 array (nbytes(count, bits),).
        bits: 1..16.
        count: number of samples.

    Returns:
        Array (count,) of ``dtype_for(bits)``; a view for 8 and 16 bits.

    Raises:
        FrameError: the byte count does not fit, or the unused last bits are not zero.
    """
    if packed.size != nbytes(count, bits):
        raise FrameError(f"{count} samples of {bits} bits take {nbytes(count, bits)} bytes, not {packed.size}")
    if bits == 8:
        return packed
    if bits == 16:
        return packed.view("<u2")
    if bits > 8:
        low, high = packed[:count].astype(np.uint16), unpack(packed[count:], bits - 8, count)
        return low | (high.astype(np.uint16) << np.uint16(8))
    used = count * bits % 8
    if used and packed[-1] >> used:
        raise FrameError("unused bits at the end of a stream are not zero")
    return _unpack_bytes(packed, bits, count)


def _pack_bytes(samples: U8, bits: int) -> U8:
    packed = np.empty(-(-samples.size // 8) * bits, np.uint8)
    for start in range(0, samples.size, _BLOCK):
        block = samples[start : start + _BLOCK]
        groups = -(-block.size // 8)
        if block.size % 8:
            block = np.concatenate([block, np.zeros(-block.size % 8, np.uint8)])
        at = start // 8 * bits
        _squeeze(block, bits, packed[at : at + groups * bits].reshape(groups, bits))
    return packed[: nbytes(samples.size, bits)]


def _squeeze(samples: U8, bits: int, packed: U8) -> None:
    """Eight samples go into one little-endian 64-bit word, of which the low ``bits`` bytes are kept."""
    words = np.ascontiguousarray(samples).view("<u8")
    # Halve the distance between neighbours three times: bytes to pairs, to quads, to the whole word.
    for width, mask in ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF), (32, 0x00000000FFFFFFFF)):
        shift = np.uint64(width - width // 8 * bits)
        low = np.uint64(mask)
        words = (words & low) | ((words & ~low) >> shift)
    packed[...] = words.view(np.uint8).reshape(-1, 8)[:, :bits]


def _unpack_bytes(packed: U8, bits: int, count: int) -> U8:
    samples = np.empty(-(-count // 8) * 8, np.uint8)
    for start in range(0, count, _BLOCK):
        block = packed[start // 8 * bits : (start + _BLOCK) // 8 * bits]
        if block.size % bits:
            block = np.concatenate([block, np.zeros(-block.size % bits, np.uint8)])
        _spread(block.reshape(-1, bits), bits, samples[start : start + _BLOCK])
    return samples[:count]


def _spread(packed: U8, bits: int, samples: U8) -> None:
    padded = np.zeros((len(packed), 8), np.uint8)
    padded[:, :bits] = packed
    words = padded.view("<u8").reshape(-1)
    for width in (32, 16, 8):
        used = width // 8 * bits
        low = np.uint64(sum(((1 << used) - 1) << at for at in range(0, 64, 2 * width)))
        words = (words & low) | ((words & (low << np.uint64(used))) << np.uint64(width - used))
    samples[...] = words.view(np.uint8)
