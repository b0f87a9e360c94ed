"""Prediction in time: what the receiver has of the last frame's components, each place moved by a vector.

Components are linear in the levels, so moving levels moves components::

    last components ─▶ levels ─▶ where vectors point ─▶ components ─▶ + residual ─▶ components
                                        ▲                                 ▲
                                     vectors                      multiples of a step
                                        └───── both cross the link ───────┘

A place is a position of the components, of an FPN 32×32 pixels of the network's input. It is *still*, predicted by
what was there; *moved*, by what was where its vector points; or *anew*, by nothing. The sender takes what costs the
least in error and bits. What a bit is worth follows from the rounding.

Both ends count in integers, :data:`GRAINS` to a step. What is moved is rounded before and after, so the order in
which a machine adds does not show, and the ends do not drift apart.

Source: motion compensation and rate-distortion choice of modes as in video coding (Sullivan and Wiegand 1998), of
features here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featlink.channel.reduction.base import ROUND
from featlink.channel.reduction.pca import Basis, mapped, scatter
from featlink.shared.compiled import numba
from featlink.shared.features import Array

Ints = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.bool_]

GRAINS = 8
"""Units that both ends count in, in a step."""
RESIDUAL = 2
"""Steps in a step of residuals: key frames are finer, as all others are predicted from them."""
REACH = 24
"""Pixels of the network's input that a place moves at most, across and down, from one frame to the next."""
HEAD = 3
"""Channels before the components: the mode of each place, then how far its vector is from its neighbour's."""
STILL, MOVED, ANEW = 0, 1, -1
"""Modes."""

_COARSE = GRAINS * RESIDUAL
_AROUND = 2
"""Samples of the finest level around a place that must fit as well, so that vectors are those of things."""
_PRICE = 0.05
"""Of a bit, in squared steps of residuals."""
_BITS_OF_ONE = 8.0
"""About what a residual other than zero costs, …"""
_BITS_OF_FIRST = 4.0
"""… and the first one of a place besides."""
_MODE_BITS = {STILL: 0.3, MOVED: 8.0, ANEW: 6.0}
"""About what saying the mode costs, and a vector like its neighbour's."""


class Sent(NamedTuple):
    """What crosses of a frame, int32.

    Attributes:
        head: (HEAD, h, w); 0 in a key frame.
        rounded: (K, h, w), components or their residuals in steps of the frame's.
    """

    head: Ints
    rounded: Ints


@dataclass(frozen=True, eq=False)
class Prediction:
    """What both ends agree on.

    Attributes:
        basis: of the components.
        step: of key frames.
    """

    basis: Basis
    step: float

    @property
    def unit(self) -> np.float32:
        """What 1 stands for in both ends' integers."""
        return np.float32(self.step / GRAINS)

    @property
    def place(self) -> int:
        """Pixels along a side of a place."""
        return 2 * self.basis.grid.cell

    @property
    def finest_stride(self) -> int:
        """Pixels in a sample of the finest level."""
        return self.basis.grid.strides[self._finest]

    @property
    def _finest(self) -> str:
        return next(iter(self.basis.grid.strides))

    @cached_property
    def _maps(self) -> tuple[Doubles, Doubles]:
        return self.basis.cell.astype(np.float64), self.basis.group.astype(np.float64)

    def moved(self, last: Ints, vectors: Ints, where: Places) -> Ints:
        """Components (K, h, w) as vectors (2, h, w) predict them in the places given; others as they are.

        What changes by moving is analysed, not what was moved, so a vector of zeros predicts exactly what was there.
        """
        count, predicted = _filled(last), last.copy()
        if not count or not where.any():
            return predicted
        grid, (cell, group) = self.basis.grid, self._maps
        channels = {name: len(mean) for name, mean in self.basis.mean.items()}
        levels = grid.split(self._cells(last, _with_neighbours(where)), channels)
        places = np.argwhere(where)
        for name, level in levels.items():
            stride = grid.strides[name]
            change: Doubles = np.zeros(level.shape)
            if stride <= self.place:  # a coarser sample belongs to several places, and stays
                _move(np.rint(level).astype(np.int64), places, vectors, stride, self.place // stride, change)
            levels[name] = change
        cells = mapped(cell.T, _by_place(grid.join(levels), where))
        predicted[:count, where] += np.rint(mapped(group[:, :count].T, cells.reshape(len(group), -1))).astype(np.int32)
        return predicted

    def finest(self, components: Ints, where: Places) -> Array:
        """The first channels of the finest level, float32 (H, W, C), in the places given; 0 elsewhere."""
        side = self.basis.grid.side(self._finest)
        cells = self._cells(components, where, self.basis.searched)
        return np.ascontiguousarray(scatter(cells, side).transpose(1, 2, 0), np.float32)

    def _cells(self, components: Ints, where: Places, rows: int | None = None) -> Doubles:
        """The first rows of all levels over cells (D, 2h, 2w), in the places given; 0 elsewhere."""
        cell, group = self._maps
        height, width = where.shape
        count = max(1, _filled(components))
        groups = mapped(group[:, :count], components[:count, where].astype(np.float64))
        found = mapped(cell[:rows], groups.reshape(cell.shape[1], -1))
        cells = np.zeros((len(found), height, 2, width, 2))
        cells.transpose(1, 3, 0, 2, 4)[where] = found.reshape(len(found), 2, 2, -1).transpose(3, 0, 1, 2)
        return cells.reshape(-1, 2 * height, 2 * width)


def _by_place(cells: Doubles, where: Places) -> Doubles:
    """Cells (D, 2h, 2w) of the places given, as columns (D, 4·N): a place's first cell of all, then all second ones."""
    height, width = where.shape
    chosen = cells.reshape(-1, height, 2, width, 2).transpose(1, 3, 0, 2, 4)[where]
    return chosen.transpose(1, 2, 3, 0).reshape(len(cells), -1)


class Sender:
    """The end that has the frames, and knows what the receiver has of them."""

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self._last: Ints = np.zeros((0, 0, 0), np.int32)

    def push(self, components: Array, key: bool, most: int) -> Sent:
        """Send the next frame.

        Args:
            components: (K, h, w).
            key: send it alone. The first one is.
            most: multiples that a sample holds; what is beyond ±most is clipped.
        """
        way = self._prediction
        if key:
            rounded = _multiples(components, way.step, most)
            self._last = rounded * np.int32(GRAINS)
            return Sent(np.zeros((HEAD, *rounded.shape[1:]), np.int32), rounded)
        exact = components / way.unit
        as_still = _Candidate(self._last, exact, most)
        vectors = self._vectors(exact, np.asarray(as_still.rounded.any(0)))
        moves = np.asarray(vectors.any(0))
        as_moved = _Candidate(way.moved(self._last, vectors, moves), exact, most)
        candidates = {STILL: as_still, MOVED: as_moved, ANEW: _Candidate(np.zeros_like(self._last), exact, most)}
        costs = {mode: one.cost + _PRICE * _MODE_BITS[mode] for mode, one in candidates.items()}
        told = np.abs(_differences(moves.astype(np.int32), vectors))
        costs[MOVED] += _PRICE * np.where(told, 2 + 2 * np.log2(np.maximum(told, 1)), 0).sum(0)
        costs[MOVED][~moves] = np.inf
        modes = np.array([*candidates], np.int32)[np.argmin([*costs.values()], 0)]
        rounded, predicted = np.empty_like(as_still.rounded), np.empty_like(self._last)
        for mode, one in candidates.items():
            np.copyto(rounded, one.rounded, where=modes == mode)
            np.copyto(predicted, one.predicted, where=modes == mode)
        self._last = predicted + rounded * np.int32(_COARSE)
        return Sent(np.concatenate([modes[None], _differences(modes, vectors)]), rounded)

    def _vectors(self, exact: Array, wanted: Places) -> Ints:
        """Where each wanted place was, int32 (2, h, w): across and down, in pixels; 0 elsewhere."""
        if not wanted.any():
            return np.zeros((2, *wanted.shape), np.int32)
        way, near = self._prediction, _with_neighbours(wanted)
        new, old = way.finest(np.rint(exact).astype(np.int32), near), way.finest(self._last, near)
        stride = way.finest_stride
        margin = REACH // stride + 2
        old = np.pad(old, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
        found: Ints = _found(new, old, wanted, (margin, stride, way.place // stride), np.float32(_PRICE * _COARSE**2))
        return found


class Receiver:
    """The other end."""

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self._last: Ints | None = None

    def push(self, sent: Sent, key: bool) -> Array:
        """Components (K, h, w) of the next frame; damaged samples give others.

        Args:
            sent: after the link.
            key: whether it was sent alone. The first to arrive is taken for a difference to nothing if it was not.
        """
        if key or self._last is None:
            self._last = sent.rounded * np.int32(GRAINS if key else _COARSE)
        else:
            vectors = _vectors_of(sent.head)
            predicted = self._prediction.moved(self._last, vectors, np.asarray(vectors.any(0)))
            self._last = np.where(sent.head[0] < 0, 0, predicted) + sent.rounded * np.int32(_COARSE)
        components: Array = self._last.astype(np.float32) * self._prediction.unit
        return components


class _Candidate:
    """A prediction, the residual in its steps, and what error and bits cost by place, in squares of those steps.

    A residual is rounded towards zero if that costs less, and all of a place are zero if that does.
    """

    def __init__(self, predicted: Ints, exact: Array, most: int) -> None:
        self.predicted = predicted
        residual = (exact - predicted.astype(np.float32)) / np.float32(_COARSE)
        sizes = np.abs(residual)
        nearest = np.rint(sizes).clip(0, most)
        lower = np.maximum(nearest - 1, 0)
        rounded = np.where(_costs(sizes, lower) < _costs(sizes, nearest), lower, nearest)
        rounded *= _costs(sizes, rounded) < np.square(sizes)
        some = _costs(sizes, rounded).sum(0) + _PRICE * _BITS_OF_FIRST * rounded.any(0)
        none = np.square(sizes).sum(0)
        self.cost = np.minimum(some, none)
        self.rounded: Ints = (np.sign(residual) * rounded * (some < none)).astype(np.int32)


def _costs(sizes: Array, rounded: Array) -> Array:
    """Of residuals without their signs that are rounded so, in squared steps."""
    bits = np.where(rounded > 0, _BITS_OF_ONE + 2 * np.log2(np.maximum(rounded, 1)), 0)
    costs: Array = (np.square(sizes - rounded) + _PRICE * bits).astype(np.float32)
    return costs


def _multiples(values: Array, step: float, most: int) -> Ints:
    """As :func:`featlink.channel.reduction.base.multiples`, as whole numbers within ±most."""
    whole = np.sign(values) * np.floor(np.abs(values) / np.float32(step) + np.float32(ROUND))
    rounded: Ints = whole.clip(-most, most).astype(np.int32)
    return rounded


def _filled(components: Ints) -> int:
    """Components up to the last that is not zero everywhere."""
    filled = np.flatnonzero(components.any((1, 2)))
    return int(filled[-1]) + 1 if filled.size else 0


def _with_neighbours(where: Places) -> Places:
    """Those places and the eight around each: a vector reaches no further."""
    height, width = where.shape
    padded = np.pad(where, 1)
    near: Places = np.logical_or.reduce([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)])
    return near


# Kernels.


@numba.njit(nogil=True, cache=True)
def _neighbour(modes, vectors, i, j):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The vector that a place's own is told from: that of the one to the left, or else above, if it moves."""
    if j and modes[i, j - 1] > 0:
        return vectors[0, i, j - 1], vectors[1, i, j - 1]
    if i and modes[i - 1, j] > 0:
        return vectors[0, i - 1, j], vectors[1, i - 1, j]
    return np.int32(0), np.int32(0)


@numba.njit(nogil=True, cache=True)
def _differences(modes, vectors):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Vectors (2, h, w) of places that move, minus their neighbours'; 0 elsewhere."""
    found = np.zeros_like(vectors)
    for i in range(modes.shape[0]):
        for j in range(modes.shape[1]):
            if modes[i, j] > 0:
                across, down = _neighbour(modes, vectors, i, j)
                found[0, i, j], found[1, i, j] = vectors[0, i, j] - across, vectors[1, i, j] - down
    return found


@numba.njit(nogil=True, cache=True)
def _vectors_of(head):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Undo :func:`_differences`, of a frame's head; within ±REACH whatever the head says."""
    vectors = np.zeros((2, head.shape[1], head.shape[2]), np.int32)
    for i in range(head.shape[1]):
        for j in range(head.shape[2]):
            if head[0, i, j] > 0:
                across, down = _neighbour(head[0], vectors, i, j)
                vectors[0, i, j] = min(REACH, max(-REACH, across + head[1, i, j]))
                vectors[1, i, j] = min(REACH, max(-REACH, down + head[2, i, j]))
    return vectors


@numba.njit(nogil=True, cache=True)
def _move(level, places, vectors, stride, side, change):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Samples of a level from where vectors point, between samples bilinear, minus those that are there.

    Args:
        level: int64 (C, H, W).
        places: int64 (N, 2), rows and columns of those that move.
        vectors: int32 (2, h, w).
        stride: pixels in a sample of the level.
        side: samples along a side of a place.
        change: float64 (C, H, W), filled in those places.
    """
    channels, height, width = level.shape
    for n in range(len(places)):
        row, column = places[n, 0], places[n, 1]
        across, down = np.int64(vectors[0, row, column]), np.int64(vectors[1, row, column])
        x, y = across // stride, down // stride
        right, lower = across - x * stride, down - y * stride
        for i in range(row * side, min(height, (row + 1) * side)):
            top, bottom = min(height - 1, max(0, i + y)), min(height - 1, max(0, i + y + 1))
            for j in range(column * side, min(width, (column + 1) * side)):
                near, far = min(width - 1, max(0, j + x)), min(width - 1, max(0, j + x + 1))
                for k in range(channels):
                    above = (stride - right) * level[k, top, near] + right * level[k, top, far]
                    below = (stride - right) * level[k, bottom, near] + right * level[k, bottom, far]
                    weighed = (stride - lower) * above + lower * below
                    change[k, i, j] = (weighed + stride * stride // 2) // (stride * stride) - level[k, i, j]


@numba.njit(nogil=True, cache=True)
def _misfit(new, old, sizes, row, column, across, down, most):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sum of squared differences of a place and what is around it to where a vector points; above ``most``, a part."""
    margin, stride, side = sizes
    x, y = across // stride, down // stride
    right = np.float32(across - stride * x) / np.float32(stride)
    lower = np.float32(down - stride * y) / np.float32(stride)
    height, width, channels = new.shape
    total = np.float32(0)
    for i in range(max(0, row * side - _AROUND), min(height, (row + 1) * side + _AROUND)):
        for j in range(max(0, column * side - _AROUND), min(width, (column + 1) * side + _AROUND)):
            a, b = i + y + margin, j + x + margin
            for k in range(channels):
                above = old[a, b, k] + right * (old[a, b + 1, k] - old[a, b, k])
                below = old[a + 1, b, k] + right * (old[a + 1, b + 1, k] - old[a + 1, b, k])
                error = new[i, j, k] - above - lower * (below - above)
                total += error * error
        if total >= most:
            break
    return total


@numba.njit(nogil=True, cache=True)
def _bits(across, down):  # type: ignore[no-untyped-def]  # pragma: no cover
    """About how many bits a difference of vectors takes."""
    bits = 2
    for size in (abs(across), abs(down)):
        while size:
            bits += 2
            size >>= 1
    return np.float32(bits)


@numba.njit(nogil=True, cache=True)
def _found(new, old, wanted, sizes, price):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The vector of each wanted place: the best of every fourth pixel in reach, then of those around it.

    Args:
        new: float32 (H, W, C), the finest level's first channels.
        old: the same of the last frame, with a margin all around.
        wanted: (h, w).
        sizes: the margin in samples, pixels in a sample, and samples along a side of a place.
        price: of a bit.

    Returns:
        int32 (2, h, w).
    """
    height, width = wanted.shape
    side = sizes[2]
    vectors = np.zeros((2, height, width), np.int32)
    price *= np.float32((side + 2 * _AROUND) ** 2) / np.float32(side**2)
    for i in range(height):
        for j in range(width):
            if not wanted[i, j]:
                continue
            guess = _neighbour(wanted, vectors, i, j)
            best = _misfit(new, old, sizes, i, j, 0, 0, np.float32(np.inf))
            across, down, reach, stride = 0, 0, REACH, 4
            while stride:
                x, y = across, down
                for dy in range(max(-REACH, y - reach), min(REACH, y + reach) + 1, stride):
                    for dx in range(max(-REACH, x - reach), min(REACH, x + reach) + 1, stride):
                        extra = price * _bits(dx - guess[0], dy - guess[1])
                        if extra < best:
                            cost = extra + _misfit(new, old, sizes, i, j, dx, dy, best - extra)
                            if cost < best:
                                best, across, down = cost, dx, dy
                stride //= 2
                reach = stride
            vectors[0, i, j], vectors[1, i, j] = across, down
    return vectors
