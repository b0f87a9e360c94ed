"""Lossless coding of a predicted frame: modes, vectors and the few differences, in contexts of the frames before.

Of each place, all channels at one position, first its mode is coded and whether anything else there is not zero; then
vectors of those that move; then, place by place, where in the channels the next difference is, its sign and size.
Unlike in :func:`~featlink.channel.codecs.context_model.code_sparse`, what is zero everywhere costs a fraction of a bit,
not that for each channel. The contexts are modes around it, in this frame and the last, how much has been sent of the
place and its neighbours lately, and the same channel next door.

What was learned of probabilities is kept from frame to frame: 100 bytes are too few to learn from. All is in integers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featlink.channel.codecs.context_model import (
    DECODING,
    NODES,
    PLACES,
    code_magnitude,
    decide,
    finish,
    new_model,
    octave,
    sign,
    start,
)
from featlink.shared.compiled import numba

Values = npt.NDArray[np.int32]

_CONTEXTS = 1280
"""Of each vote: of modes, then of vectors, then of differences."""
_VECTORS, _DIFFERENCES = 128, 192
"""Where those begin."""
_CHANNELS = _CONTEXTS - _DIFFERENCES
"""Channels that have a context of their own; the others share one."""
_ANY = 51
"""The first of three nodes, by mode: is anything at this place not zero?"""
_SENT = 16
"""What one value adds to a place's activity; it halves in every frame."""


class DifferenceModel:
    """One end's memory of a stream, from one frame that is sent alone to the next.

    Args:
        head: channels before the differences: the mode of each place, and its vector.
        shape: of a frame, (C, H, W).
    """

    def __init__(self, head: int, shape: tuple[int, int, int]) -> None:
        self._head, self._shape = head, shape

    def begin(self, values: Values) -> None:
        """Forget all, and remember a frame that was coded alone."""
        height, width = self._shape[1:]
        contexts = 5 * (_CONTEXTS,)
        self._starts, self._slots, self._weights, *_ = new_model(contexts, 4, np.zeros(0, np.uint8), decoding=False)
        self._activity = np.zeros((height + 2, width + 2), np.int64)
        self._modes = np.zeros((height + 2, width + 2), np.int64)
        self._activity[1:-1, 1:-1] = self._sent(values) * (_SENT // 8)

    def encode(self, values: Values) -> bytes:
        """Code the next frame, int32 (C, H, W)."""
        before = self._slots.copy(), self._weights.copy()
        size, room = 1, 0
        while size > room:  # only noise takes more than one round
            room = max(size, values.size // 8 + 1024)
            self._slots, self._weights = before[0].copy(), before[1].copy()
            data = np.empty(room, np.uint8)
            size = self._code(values, data, decoding=False)
        self._remember(values)
        return data[:size].tobytes()

    def decode(self, code: bytes) -> Values:
        """Undo :meth:`encode`; damage gives other values."""
        values = np.zeros(self._shape, np.int32)
        self._code(values, np.frombuffer(code, np.uint8).copy(), decoding=True)
        self._remember(values)
        return values

    def _code(self, values: Values, data: npt.NDArray[np.uint8], decoding: bool) -> int:
        model = new_model((1,), 1, data, decoding)._replace(
            starts=self._starts, slots=self._slots, weights=self._weights
        )
        return int(_code_differences(model, values, self._head, self._activity, self._modes))

    def _remember(self, values: Values) -> None:
        self._activity[1:-1, 1:-1] = (self._activity[1:-1, 1:-1] + _SENT * self._sent(values)) >> 1
        self._modes[1:-1, 1:-1] = np.sign(values[0])

    def _sent(self, values: Values) -> npt.NDArray[np.int64]:
        sent: npt.NDArray[np.int64] = np.minimum(np.abs(values[self._head :]), 3).sum(0, np.int64)
        sent += 2 * (values[0] != 0)
        return sent


# Kernels.


@numba.njit(nogil=True, cache=True)
def _vote(state, starts, first, places):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Say in which contexts the next decision stands."""
    for k in range(len(places)):
        state[PLACES + k] = starts[k] + (first + places[k]) * NODES


@numba.njit(nogil=True, cache=True)
def _code_signed(state, slots, weights, data, value):  # type: ignore[no-untyped-def]  # pragma: no cover
    """A value: zero (node 0), sign (1), magnitude."""
    if not decide(state, slots, weights, data, 1 if value else 0, 0):
        return np.int64(0)
    negative = decide(state, slots, weights, data, 1 if value < 0 else 0, 1)
    size = code_magnitude(state, slots, weights, data, abs(value))
    return -size if negative else size


@numba.njit(nogil=True, cache=True)
def _half_octave(number):  # type: ignore[no-untyped-def]  # pragma: no cover
    """0..21: two for each doubling of a number from 1 on."""
    bits = octave(number, 11)
    upper = 1 if bits > 1 and (number >> (bits - 2)) & 1 else 0
    return 2 * (bits - 1) + upper


@numba.njit(nogil=True, cache=True)
def _code_differences(model, q, head, activity, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Code a frame, or fill it in.

    Args:
        model: with what was learned of the frames before.
        q: int32 (C, H, W), read, or written where it decodes.
        head: channels before the differences.
        activity: int64 (H + 2, W + 2), of the frames before, with a border of 0.
        last: int64, the same, signs of the last frame's modes.

    Returns:
        Bytes of the code. Where they are more than its data hold, it was too small.
    """
    bands, height, width = q.shape
    starts, slots, state, data, weights = model.starts, model.slots, model.state, model.data, model.weights
    start(state, data)
    modes, others = np.zeros((height + 2, width + 2), np.int64), np.zeros((height + 2, width + 2), np.int64)
    decoding = state[DECODING]
    for i in range(height):
        for j in range(width):
            left, up, was = modes[i + 1, j] + 1, modes[i, j + 1] + 1, last[i + 1, j + 1] + 1
            moved = (left != 1) + (up != 1) + (modes[i, j] != 0) + (modes[i, j + 2] != 0)
            beside = last[i, j + 1] != 0, last[i + 2, j + 1] != 0, last[i + 1, j] != 0, last[i + 1, j + 2] != 0
            moved_before = beside[0] + beside[1] + beside[2] + beside[3]
            here = min(7, octave(activity[i + 1, j + 1], 9))
            around = activity[i, j + 1] + activity[i + 2, j + 1] + activity[i + 1, j] + activity[i + 1, j + 2]
            around = min(7, octave(around >> 2, 9))
            near = others[i + 1, j] + others[i, j + 1]
            by_modes, by_activity = (left * 3 + up) * 3 + was, here * 8 + around
            both = (was * 8 + here) * 5 + moved
            beside_all = (was * 5 + moved_before) * 5 + moved
            _vote(state, starts, 0, (by_modes, by_activity, both, moved * 3 + near, beside_all))
            mode = _code_signed(state, slots, weights[0], data, np.int64(q[0, i, j]))
            q[0, i, j] = mode
            modes[i + 1, j + 1] = sign(mode)
            first = head if mode > 0 else 1
            other = np.int64(0)
            if not decoding:
                for k in range(first, bands):
                    if q[k, i, j]:
                        other = np.int64(1)
                        break
            with_activity = (was * 8 + here) * 3 + near
            beside_all = others[i, j + 2] * 3 + near
            _vote(state, starts, 0, (by_modes, by_activity, with_activity, near * 5 + moved, beside_all))
            others[i + 1, j + 1] = decide(state, slots, weights[0], data, other, _ANY + 1 + sign(mode))
    for i in range(height):
        for j in range(width):
            if modes[i + 1, j + 1] <= 0:
                continue
            near = 2 * (modes[i + 1, j] > 0) + (modes[i, j + 1] > 0)
            for k in range(1, min(head, bands)):
                left = abs(np.int64(q[k, i, j - 1])) if modes[i + 1, j] > 0 else np.int64(0)
                up = abs(np.int64(q[k, i - 1, j])) if modes[i, j + 1] > 0 else np.int64(0)
                across = octave(abs(np.int64(q[k - 1, i, j])), 3) if k > 1 else np.int64(0)
                odd = k & 1
                beside = octave(left + up, 5) * 2 + odd
                _vote(state, starts, _VECTORS, (near * 2 + odd, (near * 4 + across) * 2 + odd, beside, across, odd))
                q[k, i, j] = _code_signed(state, slots, weights[1], data, np.int64(q[k, i, j]))
    for i in range(height):
        for j in range(width):
            if not others[i + 1, j + 1]:
                continue
            mode, here = modes[i + 1, j + 1] + 1, min(7, octave(activity[i + 1, j + 1], 9))
            found = np.int64(0)
            first = head if mode == 2 else 1
            before = first
            for k in range(first, bands):
                near = 0
                if j:
                    near += (q[k, i, j - 1] != 0) + (i > 0 and q[k, i - 1, j - 1] != 0)
                if i:
                    near += (q[k, i - 1, j] != 0) + (j + 1 < width and q[k, i - 1, j + 1] != 0)
                few = min(found, np.int64(3))
                band = _half_octave(max(1, k - head + 1))
                gap = (octave(k - before, 10) * 4 + few) * 3 + min(near, 2)
                by_band, own = (band * 4 + few) * 3 + mode, min(k, _CHANNELS - 1)
                votes = (by_band, band * 8 + here, gap, own, (few * 8 + here) * 3 + mode)
                _vote(state, starts, _DIFFERENCES, votes)
                value = np.int64(q[k, i, j])
                if decide(state, slots, weights[2], data, 1 if value else 0, 0):
                    negative = decide(state, slots, weights[3], data, 1 if value < 0 else 0, 1)
                    size = code_magnitude(state, slots, weights[3], data, abs(value))
                    q[k, i, j] = -size if negative else size
                    found += 1
                    before = k
                else:
                    q[k, i, j] = 0
    return finish(state, data)
