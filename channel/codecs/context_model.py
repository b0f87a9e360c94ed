"""Lossless coding of integers: a binary range coder whose probabilities are mixed from adaptive contexts.

::

    sample ─▶ decisions ─▶ contexts ─▶ votes ─▶ mixer ─▶ probability ─▶ range coder ─▶ bytes
                              ▲                   ▲                          │
                              └───────────────────┴──── learn from ──────────┘

For each decision, some contexts look up how often it was 1 so far: a 16-bit probability whose rate of change falls
with its count. One neuron, in the logistic domain, mixes their votes and learns from every decision; a range coder
codes the decision with the mixed probability. Encoder and decoder are one function, so both see the same numbers, and
no number is a float, so every machine does.

Two kernels differ in their contexts: :func:`code_samples` for planes with textures, whose samples are predicted, and
:func:`code_sparse` for signed values that are mostly zero, such as a transform's quantised components. Those have no
texture to predict, but where one component is large, so are others at the same place, and components become rarer from
the first to the last.

Sources: Mahoney, Data Compression Explained, section 4.3 (logistic mixing); Witten, Neal and Cleary 1987 (arithmetic
coding); Weinberger, Seroussi and Sapiro 2000 (JPEG-LS: errors of a prediction, in the contexts of those before).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from featlink.shared.compiled import numba

MODELS = 5
"""Contexts whose votes are mixed."""
NODES = 64
"""Kinds of decisions, and so probabilities of one context: see :func:`_code_value`."""
_ENERGIES = 12
"""Steps of :data:`LEVELS`."""
_TAPS = 11
"""Neighbours that a prediction is made of."""
_SLOWEST = 250
"""Decisions after which a context's probability learns no slower."""
_STEP = 6
"""How fast the mixer learns."""
FIRST_WEIGHT = 18000
"""Of each vote, in 1/65536; a little more than their mean, as votes that agree say more than one."""
_DENSITIES = 24
"""Steps of half an octave of the share of values that are not zero, see :func:`_half_octaves`."""
_MIXERS = 6
"""Sets of weights, by how busy a place has been."""
_UNARY = 20
"""Magnitudes from here on are coded by the bits of what is above it."""


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Made with floats and rounded; a test pins their digest, as both ends must have the same."""
    stretch = [round(256 * math.log((i + 0.5) / (4095.5 - i))) for i in range(4096)]
    squash = [round(65536 / (1 + math.exp(-x / 256))) for x in range(-2560, 2561)]
    rates = [round(65536 / (n + 1.6)) for n in range(256)]
    levels = [min(_ENERGIES - 1, n.bit_length()) for n in range(1025)]
    return (
        np.array(stretch, np.int32),
        np.array(squash, np.int32).clip(24, 65512),
        np.array(rates, np.int32),
        np.array(levels, np.int32),
    )


STRETCH, SQUASH, RATES, LEVELS = _tables()
"""ln(p / (1 - p)) in 1/256 of a 12-bit p; its inverse for -10..10, in 16 bits and never certain; the rate of change of
a probability that has seen n decisions, in 1/65536; and the octave of a number."""


class Model(NamedTuple):
    """All that coding changes as it goes; both ends begin with the same and use it up.

    Attributes:
        starts: where each context's slots start, int64 (MODELS,).
        slots: a probability of a 1 each, and how many decisions it has seen, uint16 (n, 2).
        weights: of the votes, by mixer, int32 (mixers, NODES, MODELS).
        state: int64 (5 + 2·MODELS,), see :data:`_LOW` and those after it.
        data: uint8, written to its end, or read by the decoder: zeros are behind it.
    """

    starts: np.ndarray
    slots: np.ndarray
    weights: np.ndarray
    state: np.ndarray
    data: np.ndarray


_LOW, _HIGH, _VALUE, _AT, DECODING = range(5)
"""Places in the state: the 32-bit range's lowest and highest value, the decoder's value, the place in the data, and
whether samples are filled in from it."""
_VOTES = 5
"""From here on: the votes on the decision at hand."""
PLACES = _VOTES + MODELS
"""From here on: the slots that vote, without the decision's node."""


def dense_model(channels: int, data: np.ndarray, decoding: bool) -> Model:
    """The model of :func:`code_samples` before the first sample: it knows nothing."""
    contexts = (channels * _ENERGIES, 8 * _ENERGIES**2, 5 * 5 * 3 * 3, channels * 7 * 5, 256 * 4)
    return new_model(contexts, 1, data, decoding)


def sparse_model(bands: int, data: np.ndarray, decoding: bool) -> Model:
    """The model of :func:`code_sparse` before the first value."""
    contexts = (_DENSITIES * 9 * 7, bands * 9, 8 * 9 * 7, _DENSITIES * 8 * 8, _DENSITIES * 9 * 5)
    return new_model(contexts, _MIXERS, data, decoding)


def new_model(contexts: tuple[int, ...], mixers: int, data: np.ndarray, decoding: bool) -> Model:
    """A model that knows nothing, of so many contexts for each vote, and sets of weights."""
    sizes = NODES * np.array(contexts)
    slots = np.zeros((int(sizes.sum()), 2), np.uint16)
    slots[:, 0] = 1 << 15
    state = np.zeros(PLACES + MODELS, np.int64)
    state[DECODING] = decoding
    weights = np.full((mixers, NODES, MODELS), FIRST_WEIGHT, np.int32)
    return Model(np.cumsum(sizes) - sizes, slots, weights, state, data)


# Kernels. Inner ones take the model's arrays apart: taking them from the tuple in each decision doubles the time.


@numba.njit(nogil=True, cache=True)
def start(state, data):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Open the whole range; the decoder reads its first value."""
    state[_LOW], state[_HIGH], state[_VALUE], state[_AT] = 0, 0xFFFFFFFF, 0, 0
    if state[DECODING]:
        for k in range(4):
            state[_VALUE] = (state[_VALUE] << 8) | (np.int64(data[k]) if k < len(data) else 0)
        state[_AT] = 4


@numba.njit(nogil=True, cache=True)
def finish(state, data):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the fewest bytes that settle the range, as the decoder reads zeros behind them; their number in all."""
    count, value = 0, np.int64(1) << 32
    while value > state[_HIGH]:
        count += 1
        shift = 32 - 8 * count
        value = ((state[_LOW] + (np.int64(1) << shift) - 1) >> shift) << shift
    for k in range(0 if state[DECODING] else count):
        if state[_AT] < len(data):
            data[state[_AT]] = (value >> (24 - 8 * k)) & 255
        state[_AT] += 1
    return state[_AT]


@numba.njit(nogil=True, cache=True)
def _clamp(value, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    return min(high, max(low, value))


@numba.njit(nogil=True, cache=True)
def decide(state, slots, weights, data, bit, node):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Mix the votes of the slots at the places, code one decision, learn from it; the decoder ignores ``bit``."""
    dot = np.int64(0)
    for k in range(MODELS):
        vote = np.int64(STRETCH[slots[state[PLACES + k] + node, 0] >> 4])
        state[_VOTES + k] = vote
        dot += np.int64(weights[node, k]) * vote
    mixed = np.int64(SQUASH[_clamp(dot >> 16, -2560, 2560) + 2560])
    low, high = state[_LOW], state[_HIGH]
    span = high - low
    middle = low + (span >> 16) * mixed + (((span & 0xFFFF) * mixed) >> 16)
    if state[DECODING]:
        bit = np.int64(1) if state[_VALUE] <= middle else np.int64(0)
    if bit:
        high = middle
    else:
        low = middle + 1
    while ((low ^ high) & 0xFF000000) == 0:  # the first byte is settled
        at = state[_AT]
        if state[DECODING]:
            state[_VALUE] = ((state[_VALUE] << 8) & 0xFFFFFFFF) | (np.int64(data[at]) if at < len(data) else 0)
        elif at < len(data):
            data[at] = high >> 24
        state[_AT] = at + 1
        low = (low << 8) & 0xFFFFFFFF
        high = ((high << 8) & 0xFFFFFFFF) | 255
    state[_LOW], state[_HIGH] = low, high
    error = ((bit << 16) - mixed) * _STEP
    for k in range(MODELS):
        slot = state[PLACES + k] + node
        weights[node, k] += (state[_VOTES + k] * error + (1 << 15)) >> 16
        chance, count = np.int64(slots[slot, 0]), slots[slot, 1]
        if bit:
            chance += ((65535 - chance) * RATES[count]) >> 16
        else:
            chance -= (chance * RATES[count]) >> 16
        slots[slot, 0] = min(65519, max(16, chance))
        if count < _SLOWEST:
            slots[slot, 1] = count + 1
    return bit


@numba.njit(nogil=True, cache=True)
def _scaled(difference, unit, most):  # type: ignore[no-untyped-def]  # pragma: no cover
    """A difference in units of 2**unit, to nearest, within ±most, shifted to be positive."""
    return _clamp((difference + ((1 << unit) >> 1)) >> unit, -most, most) + most


@numba.njit(nogil=True, cache=True)
def _code_value(state, slots, weights, data, value, guess, top):  # type: ignore[no-untyped-def]  # pragma: no cover
    """A sample by its distance from a guess: is there one (node 0)? above (1)? its octave in unary (from 2 or 3 on,
    by side); then its bits behind the first, the highest in the context of the octave (from 34 on), others (from 50 on)
    of their place. What the limits 0 and ``top`` leave no choice of is not coded. Damaged data stay within them too.
    """
    distance = abs(value - guess)
    if not decide(state, slots, weights, data, 1 if distance else 0, 0):
        return guess
    above = np.int64(1) if guess == 0 else np.int64(0)
    if 0 < guess < top:
        above = decide(state, slots, weights, data, 1 if value > guess else 0, 1)
    most = top - guess if above else guess
    octave = 0
    while (2 << octave) <= most:
        beyond = 1 if distance >= (2 << octave) else 0
        if not decide(state, slots, weights, data, beyond, 2 + 2 * octave + above):
            break
        octave += 1
    beyond_guess = np.int64(1)
    for place in range(octave - 1, -1, -1):
        node = 34 + octave if place == octave - 1 else 50 + place
        bit = (distance >> place) & 1
        beyond_guess = (beyond_guess << 1) | decide(state, slots, weights, data, bit, node)
    beyond_guess = min(beyond_guess, most)
    return guess + beyond_guess if above else guess - beyond_guess


@numba.njit(nogil=True, cache=True)
def code_samples(model, x, bits, alike, errors):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Code samples channel after channel, or fill them in.

    A sample is predicted from five neighbours before it, and from what two channels before it, with textures like its
    own, have here; the weights of that sum are learned by least mean squares, anew in each channel. The contexts of the
    distance from the prediction are, each with some of the other:

    - how large distances around it were, in this channel and here in those like it;
    - where between two integers the prediction lies, and where in the range;
    - how neighbours differ from it;
    - the distances of the channels like it, here.

    Args:
        model: a new :func:`dense_model`.
        x: uint16 (C + 1, H, W), read, or written where it decodes; the last channel is 0 and not coded.
        bits: their depth, 1..16.
        alike: int64 (2, C), for each channel two before it; -1, the last, where there is none.
        errors: int32 zeros (C + 1, H + 2, W + 2), for the distances.

    Returns:
        Bytes of the code. Where they are more than its data hold, it was too small.
    """
    channels, height, width = len(x) - 1, x.shape[1], x.shape[2]
    top = np.int64((1 << bits) - 1)
    unit = max(0, bits - 5)  # that contexts count differences in
    rate = 2 * bits - 4 if bits > 2 else 1  # of the prediction's learning: differences are as large as the range
    starts, slots, state, data = model.starts, model.slots, model.state, model.data
    weights = model.weights[0]
    near, w = np.zeros(_TAPS, np.int64), np.zeros(_TAPS, np.int64)
    start(state, data)
    for c in range(channels):
        w[:] = 0
        own, errors_own = x[c], errors[c]
        one, errors_one = x[alike[0, c]], errors[alike[0, c]]
        two, errors_two = x[alike[1, c]], errors[alike[1, c]]
        for i in range(height):
            for j in range(width):
                # What is beyond the border is as what is nearest to it, of what is known.
                left = np.int64(own[i, j - 1]) if j else (np.int64(own[i - 1, j]) if i else (top + 1) >> 1)
                up = np.int64(own[i - 1, j]) if i else left
                corner = np.int64(own[i - 1, j - 1]) if i and j else up
                right = np.int64(own[i - 1, j + 1]) if i and j + 1 < width else up
                here = np.int64(one[i, j])
                left_one = np.int64(one[i, j - 1]) if j else here
                up_one = np.int64(one[i - 1, j]) if i else here
                here_two = np.int64(two[i, j])
                left_two = np.int64(two[i, j - 1]) if j else here_two
                up_two = np.int64(two[i - 1, j]) if i else here_two

                # In 1/16. Everything is relative to the mean of two neighbours, so that weights fit any brightness.
                mean, mean_one = (left + up) << 3, (left_one + up_one) << 3
                near[0] = (left - up) << 3
                near[1] = (corner << 4) - mean
                near[2] = (right << 4) - mean
                near[3] = ((np.int64(own[i, j - 2]) if j > 1 else left) << 4) - mean
                near[4] = ((np.int64(own[i - 2, j]) if i > 1 else up) << 4) - mean
                near[5] = (here << 4) - mean_one
                near[6] = (left_one - up_one) << 3
                near[7] = ((np.int64(one[i, j + 1]) if j + 1 < width else here) << 4) - mean_one
                near[8] = ((np.int64(one[i + 1, j]) if i + 1 < height else here) << 4) - mean_one
                near[9] = (here_two << 4) - ((left_two + up_two) << 3)
                near[10] = (here << 4) - mean if alike[0, c] >= 0 else 0
                total = np.int64(0)
                for k in range(_TAPS):
                    total += w[k] * near[k]
                predicted = _clamp(mean + (total >> 16), 0, top << 4)
                guess = (predicted + 8) >> 4

                e_one, e_two = np.int64(errors_one[i + 1, j + 1]), np.int64(errors_two[i + 1, j + 1])
                energy = 2 * (abs(errors_own[i + 1, j]) + abs(errors_own[i, j + 1]))
                energy += abs(errors_own[i, j]) + abs(errors_own[i, j + 2])
                others = 2 * (abs(e_one) + abs(e_two)) + abs(errors_one[i + 1, j + 2]) + abs(errors_one[i + 2, j + 1])
                ours, theirs = LEVELS[min(energy, 1024)], LEVELS[min(others, 1024)]
                slope = _scaled(left - guess, unit, 2) * 5 + _scaled(up - guess, unit, 2)
                slope = (slope * 3 + _scaled(corner - guess, unit, 1)) * 3 + _scaled(right - guess, unit, 1)
                both = _scaled(e_one, unit, 3) * 5 + _scaled(e_two, unit, 2)
                state[PLACES + 0] = starts[0] + (c * _ENERGIES + ours) * NODES
                state[PLACES + 1] = (
                    starts[1] + ((((predicted & 15) >> 1) * _ENERGIES + ours) * _ENERGIES + theirs) * NODES
                )
                state[PLACES + 2] = starts[2] + slope * NODES
                state[PLACES + 3] = starts[3] + (c * 35 + both) * NODES
                state[PLACES + 4] = starts[4] + (predicted * 255 // (top << 4) * 4 + min(3, theirs)) * NODES

                value = np.int64(own[i, j])
                value = _code_value(state, slots, weights, data, value, guess, top)
                own[i, j] = value
                errors_own[i + 1, j + 1] = value - guess
                error = (value << 4) - predicted
                for k in range(_TAPS):
                    w[k] += (error * near[k]) >> rate
    return finish(state, data)


# Values that are mostly zero.


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
def octave(value, most):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bits of a number, at most ``most``."""
    bits = 0
    while value > 0 and bits < most:
        value >>= 1
        bits += 1
    return bits


@numba.njit(nogil=True, cache=True)
def _half_octaves(share):  # type: ignore[no-untyped-def]  # pragma: no cover
    """0 for a share of all, in 1/65536, one more for each √2 that it is less."""
    bits = octave(share, 16)
    upper = 1 if bits > 1 and (share >> (bits - 2)) & 1 else 0
    return min(_DENSITIES - 1, 2 * (16 - bits) + 1 - upper)


@numba.njit(nogil=True, cache=True)
def sign(value):  # type: ignore[no-untyped-def]  # pragma: no cover
    """-1, 0 or 1."""
    return 1 if value > 0 else (-1 if value < 0 else 0)


@numba.njit(nogil=True, cache=True)
def code_magnitude(state, slots, weights, data, size):  # type: ignore[no-untyped-def]  # pragma: no cover
    """A magnitude of 1 or more: unary (nodes 2..20), then the octave of the rest (21..35) and its bits (36..50)."""
    known = np.int64(1)
    while known < _UNARY:
        if not decide(state, slots, weights, data, 1 if size > known else 0, 1 + known):
            return known
        known += 1
    rest = size - _UNARY + 1
    octave = 0
    while octave < 15:
        beyond = 1 if rest >> (octave + 1) else 0
        if not decide(state, slots, weights, data, beyond, 21 + min(octave, 14)):
            break
        octave += 1
    value = np.int64(1)
    for place in range(octave - 1, -1, -1):
        bit = (rest >> place) & 1
        value = (value << 1) | decide(state, slots, weights, data, bit, 36 + place)
    return _UNARY - 1 + value


@numba.njit(nogil=True, cache=True)
def code_sparse(model, q):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Code values band after band, or fill them in.

    A value is zero or not; if not, it has a sign and a magnitude in unary, and beyond ``_UNARY`` the bits of the rest.
    The contexts are how busy the place and those around it have been in the bands before; the same with the neighbours
    of this band, with the last two bands, and with how rare values other than zero have become; and the neighbours in
    this very band.

    Args:
        model: a new :func:`sparse_model`.
        q: int32 (K, H, W), read, or written where it decodes.

    Returns:
        Bytes of the code. Where they are more than its data hold, it was too small.
    """
    bands, height, width = q.shape
    starts, slots, state, data = model.starts, model.slots, model.state, model.data
    start(state, data)
    busy = np.zeros((height + 2, width + 2), np.int64)  # recent magnitudes at each place, in 1/256
    area = height * width
    share = np.int64(1 << 15)  # of values that are not zero, over the bands before, in 1/65536
    before = np.int64(0)  # the same as a number, and over fewer bands
    for k in range(bands):
        rare = _half_octaves(share)
        lately = octave(before * 256 // area, 7)
        nonzero = np.int64(0)
        for i in range(height):
            for j in range(width):
                left = np.int64(q[k, i, j - 1]) if j else np.int64(0)
                up = np.int64(q[k, i - 1, j]) if i else np.int64(0)
                corner = abs(np.int64(q[k, i - 1, j - 1])) if i and j else np.int64(0)
                right = abs(np.int64(q[k, i - 1, j + 1])) if i and j + 1 < width else np.int64(0)
                near = _class(2 * (abs(left) + abs(up)) + corner + right)
                here = octave(busy[i + 1, j + 1] >> 1, 8)
                around = busy[i, j + 1] + busy[i + 2, j + 1] + busy[i + 1, j] + busy[i + 1, j + 2]
                around = octave(around >> 3, 6)
                one = abs(np.int64(q[k - 1, i, j])) if k else np.int64(0)
                two = abs(np.int64(q[k - 2, i, j])) if k > 1 else np.int64(0)
                seen = i * width + j
                so_far = _class(nonzero * 16 // (seen + 1)) if seen > 8 else 0
                beside = _few(left) * 3 + _few(up)
                state[PLACES + 0] = starts[0] + ((rare * 9 + here) * 7 + around) * NODES
                state[PLACES + 1] = starts[1] + (k * 9 + beside) * NODES
                state[PLACES + 2] = starts[2] + ((near * 9 + here) * 7 + around) * NODES
                state[PLACES + 3] = starts[3] + ((rare * 8 + lately) * 8 + so_far) * NODES
                state[PLACES + 4] = starts[4] + ((rare * 9 + here) * 5 + min(4, one + two)) * NODES
                weights = model.weights[min(_MIXERS - 1, here * _MIXERS // 9)]

                value = np.int64(q[k, i, j])
                size = abs(value)
                if not decide(state, slots, weights, data, 1 if size else 0, 0):
                    size = np.int64(0)
                    q[k, i, j] = 0
                else:
                    state[PLACES + 1] = starts[1] + (k * 9 + (sign(left) + 1) * 3 + sign(up) + 1) * NODES
                    negative = decide(state, slots, weights, data, 1 if value < 0 else 0, 1)
                    state[PLACES + 1] = starts[1] + (k * 9 + beside) * NODES
                    size = code_magnitude(state, slots, weights, data, size)
                    q[k, i, j] = -size if negative else size
                    nonzero += 1
                change = (size << 8) - busy[i + 1, j + 1]
                busy[i + 1, j + 1] += change >> 3 if change > 0 else -((-change) >> 4)  # quick to rise, slow to fall
        share = (4 * share + (nonzero << 16) // area) // 5
        before = (3 * before + nonzero) // 4 if k else nonzero
    return finish(state, data)
