"""Lossless coding of signed values that are mostly zero, such as a transform's quantised components.

The range coder and the mixing are those of ``context_mixing``; what differs is the contexts. Values
of a transform have no texture to predict, but where one component is large, so are others at the same place, and the
components become rarer from the first to the last.
"""

from __future__ import annotations

import numba
import numpy as np

from featlink.channel.codecs.context_mixing import FIRST_WEIGHT, MODELS, NODES, decide, finish, start

_DENSITIES = 24
"""Steps of half an octave of the share of values that are not zero, see :func:`_half_octaves`."""
_MIXERS = 6
"""Sets of weights, by how busy a place has been."""
_UNARY = 20
"""Magnitudes from here on are coded by the bits of what is above it."""


def model(bands: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the coder knows before the first value: nothing.

    Returns:
        Where each context's slots start; probabilities; how many decisions they have seen; weights of each mixer,
        int32 (_MIXERS, NODES, MODELS).
    """
    sizes = NODES * np.array([_DENSITIES * 9 * 7, bands * 9, 8 * 9 * 7, _DENSITIES * 8 * 8, _DENSITIES * 9 * 5])
    slots = int(sizes.sum())
    weights = np.full((_MIXERS, NODES, MODELS), FIRST_WEIGHT, np.int32)
    return np.cumsum(sizes) - sizes, np.full(slots, 1 << 15, np.uint16), np.zeros(slots, np.uint8), weights


@numba.njit(nogil=True, cache=True)
def _class(value):  # type: ignore[no-untyped-def]  # pragma: no cover
    """0..7: 0, 1, 2, then wider and wider."""
    if value <= 2:
        return value
    if value <= 6:
        return (value + 3) >> 1
    if value <= 9:
        return 5
    return 6 if value <= 14 else 7


@numba.njit(nogil=True, cache=True)
def _few(value):  # type: ignore[no-untyped-def]  # pragma: no cover
    """0, 1, or 2 for any larger magnitude."""
    return min(2, abs(value))


@numba.njit(nogil=True, cache=True)
def _octave(value, most):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bits of a number, at most ``most``."""
    found = 0
    while value > 0 and found < most:
        value >>= 1
        found += 1
    return found


@numba.njit(nogil=True, cache=True)
def _half_octaves(share):  # type: ignore[no-untyped-def]  # pragma: no cover
    """0 for a share of all, in 1/65536, one more for each √2 that it is less."""
    bits = _octave(share, 16)
    upper = 1 if bits > 1 and (share >> (bits - 2)) & 1 else 0
    return min(_DENSITIES - 1, 2 * (16 - bits) + 1 - upper)


@numba.njit(nogil=True, cache=True)
def _sign(value):  # type: ignore[no-untyped-def]  # pragma: no cover
    return 1 if value > 0 else (-1 if value < 0 else 0)


@numba.njit(nogil=True, cache=True)
def code_values(q, starts, p, n, weights, data, decoding):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Code values band after band, or fill them in.

    A value is zero or not; if not, it has a sign and a magnitude in unary, and beyond ``_UNARY`` the bits of the rest.
    The contexts are how busy the place and those around it have been in the bands before; the same with the neighbours
    of this band, with the last two bands, and with how rare values other than zero have become; and the neighbours in
    this very band.

    Args:
        q: int32 (K, H, W), read, or written where ``decoding``.
        starts, p, n, weights: a new :func:`model`, which it uses up.
        data: uint8, written to its end, or read where ``decoding``: zeros are behind it.
        decoding: fill in ``q`` from ``data``.

    Returns:
        Bytes of the code. Where they are more than ``data`` holds, it was too small.
    """
    bands, height, width = q.shape
    coder = np.zeros(4, np.int64)
    start(coder, data, decoding)
    votes, places = np.zeros(MODELS, np.int64), np.zeros(MODELS, np.int64)
    busy = np.zeros((height + 2, width + 2), np.int64)  # recent magnitudes at each place, in 1/256
    area = height * width
    share = np.int64(1 << 15)  # of values that are not zero, over the bands before, in 1/65536
    before = np.int64(0)  # the same as a number, and over fewer bands
    for k in range(bands):
        rare = _half_octaves(share)
        lately = _octave(before * 256 // area, 7)
        found = np.int64(0)
        for i in range(height):
            for j in range(width):
                left = np.int64(q[k, i, j - 1]) if j else np.int64(0)
                up = np.int64(q[k, i - 1, j]) if i else np.int64(0)
                corner = abs(np.int64(q[k, i - 1, j - 1])) if i and j else np.int64(0)
                right = abs(np.int64(q[k, i - 1, j + 1])) if i and j + 1 < width else np.int64(0)
                near = _class(2 * (abs(left) + abs(up)) + corner + right)
                here = _octave(busy[i + 1, j + 1] >> 1, 8)
                around = busy[i, j + 1] + busy[i + 2, j + 1] + busy[i + 1, j] + busy[i + 1, j + 2]
                around = _octave(around >> 3, 6)
                one = abs(np.int64(q[k - 1, i, j])) if k else np.int64(0)
                two = abs(np.int64(q[k - 2, i, j])) if k > 1 else np.int64(0)
                seen = i * width + j
                so_far = _class(found * 16 // (seen + 1)) if seen > 8 else 0
                beside = _few(left) * 3 + _few(up)
                places[0] = starts[0] + ((rare * 9 + here) * 7 + around) * NODES
                places[1] = starts[1] + (k * 9 + beside) * NODES
                places[2] = starts[2] + ((near * 9 + here) * 7 + around) * NODES
                places[3] = starts[3] + ((rare * 8 + lately) * 8 + so_far) * NODES
                places[4] = starts[4] + ((rare * 9 + here) * 5 + min(4, one + two)) * NODES
                mixer = weights[min(_MIXERS - 1, here * _MIXERS // 9)]

                value = np.int64(q[k, i, j])
                size = abs(value)
                if not decide(coder, data, decoding, 1 if size else 0, 0, places, p, n, votes, mixer):
                    size = np.int64(0)
                    q[k, i, j] = 0
                else:
                    places[1] = starts[1] + (k * 9 + (_sign(left) + 1) * 3 + _sign(up) + 1) * NODES
                    negative = decide(coder, data, decoding, 1 if value < 0 else 0, 1, places, p, n, votes, mixer)
                    places[1] = starts[1] + (k * 9 + beside) * NODES
                    size = _code_size(size, coder, data, decoding, places, p, n, votes, mixer)
                    q[k, i, j] = -size if negative else size
                    found += 1
                change = (size << 8) - busy[i + 1, j + 1]
                busy[i + 1, j + 1] += change >> 3 if change > 0 else -((-change) >> 4)  # quick to rise, slow to fall
        share = (4 * share + (found << 16) // area) // 5
        before = (3 * before + found) // 4 if k else found
    finish(coder, data)
    return coder[3]


@numba.njit(nogil=True, cache=True)
def _code_size(size, coder, data, decoding, places, p, n, votes, mixer):  # type: ignore[no-untyped-def]  # pragma: no cover
    """A magnitude of 1 or more: unary (nodes 2..20), then the octave of the rest (21..35) and its bits (36..50)."""
    known = np.int64(1)
    while known < _UNARY:
        if not decide(coder, data, decoding, 1 if size > known else 0, 1 + known, places, p, n, votes, mixer):
            return known
        known += 1
    rest = size - _UNARY + 1
    octave = 0
    while octave < 15:
        beyond = 1 if rest >> (octave + 1) else 0
        if not decide(coder, data, decoding, beyond, 21 + min(octave, 14), places, p, n, votes, mixer):
            break
        octave += 1
    value = np.int64(1)
    for place in range(octave - 1, -1, -1):
        bit = (rest >> place) & 1
        value = (value << 1) | decide(coder, data, decoding, bit, 36 + place, places, p, n, votes, mixer)
    return _UNARY - 1 + value
