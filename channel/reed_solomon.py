"""A systematic Reed–Solomon code over GF(2⁸) for erasures: any k of a block's packets give its k sources back.

GF(2⁸) is GF(2)[x] / (x⁸ + x⁴ + x³ + x² + 1). A packet is named by its index in the block, 0..255: those below k are the
sources, and parity i is the sum over all sources j of source j / (i + j), byte by byte. Every square part of this
(Cauchy's) matrix can be inverted, so it does not matter which packets arrive, nor how many parity packets there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

Symbols = npt.NDArray[np.uint8]
MOST_IN_BLOCK = 256
"""Packets of a block, parity included."""
_MODULUS = 0x11D


def parity_packets(sources: Sequence[bytes], count: int) -> list[bytes]:
    """The first so many parity packets.

    Args:
        sources: k of the same size.
        count: k + count is at most 256.

    Example:
        >>> (parity,) = parity_packets([b"up", b"on"], 1)
        >>> recover({1: b"on", 2: parity}, 2)
        [b'up', b'on']
    """
    k = len(sources)
    sums = _combined(_cauchy(range(k, k + count), range(k)), _rows(sources, len(sources[0])))
    return [row.tobytes() for row in sums]


def recover(packets: Mapping[int, bytes], k: int) -> list[bytes]:
    """The sources from any k packets.

    Args:
        packets: by index, k or more of the same size.
        k: how many sources there are.
    """
    there = [j for j in range(k) if j in packets]
    lost = [j for j in range(k) if j not in packets]
    used = sorted(i for i in packets if i >= k)[: len(lost)]
    size = len(next(iter(packets.values())))
    known = _combined(_cauchy(used, there), _rows([packets[j] for j in there], size))
    rest = _rows([packets[i] for i in used], size) ^ known
    found = dict(zip(lost, _solved(_cauchy(used, lost), rest), strict=True))
    return [packets[j] if j in packets else found[j].tobytes() for j in range(k)]


@cache
def _products() -> Symbols:
    """Of all pairs."""
    factor = np.arange(256)
    total, shifted = np.zeros((256, 256), np.int64), factor
    for bit in range(8):
        total ^= np.where(factor[:, None] >> bit & 1, shifted, 0)
        shifted = np.where(shifted & 128, shifted << 1 ^ _MODULUS, shifted << 1)
    return total.astype(np.uint8)


@cache
def _inverses() -> Symbols:
    """Of all elements; 0 has none."""
    inverses: Symbols = (_products() == 1).argmax(axis=1).astype(np.uint8)
    return inverses


def _rows(packets: Sequence[bytes], size: int) -> Symbols:
    return np.frombuffer(b"".join(packets), np.uint8).reshape(len(packets), size)


def _cauchy(parities: Sequence[int], sources: Sequence[int]) -> Symbols:
    there, of = np.array(parities, np.int64), np.array(sources, np.int64)
    coefficients: Symbols = _inverses()[there[:, None] ^ of]
    return coefficients


def _combined(matrix: Symbols, rows: Symbols) -> Symbols:
    """The product of (m, k) and (k, size)."""
    products, out = _products(), np.zeros((len(matrix), rows.shape[1]), np.uint8)
    for column, row in zip(matrix.T, rows, strict=True):
        out ^= products[column][:, row]
    return out


def _solved(matrix: Symbols, right: Symbols) -> Symbols:
    """The (n, size) of which the (n, n) matrix makes the right side; no part of a Cauchy matrix needs a pivot."""
    products, inverses = _products(), _inverses()
    both = np.concatenate([matrix, right], axis=1)
    for i in range(len(both)):
        both[i] = products[inverses[both[i, i]]][both[i]]
        factors = both[:, i].copy()
        factors[i] = 0
        both ^= products[factors][:, both[i]]
    return both[:, len(both) :]
