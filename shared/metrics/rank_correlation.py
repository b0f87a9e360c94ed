"""Spearman's rank correlation on a fixed sample of a level: how much of the features' order survives."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from featlink.shared.compiled import numba

SAMPLE = 100_000
"""Values a level is judged by; a smaller level is taken whole."""


@functools.lru_cache(maxsize=32)
def sample_positions(size: int) -> npt.NDArray[np.int64]:
    """Choose the sample: one position drawn from each of ``SAMPLE`` equal stretches of a flat array.

    The draw is seeded and depends on ``size`` alone, so every distortion of a level is judged by the
    same values.

    Args:
        size: number of values.

    Returns:
        Shape (min(size, SAMPLE),), strictly increasing; read-only, as the next caller gets the same.

    Example:
        >>> sample_positions(3).tolist()
        [0, 1, 2]
    """
    count = min(size, SAMPLE)
    edges = np.arange(count + 1) * size // count
    positions = np.random.default_rng(0).integers(edges[:-1], edges[1:])
    positions.flags.writeable = False
    return positions


def spearman(reference: npt.NDArray[np.generic], distorted: npt.NDArray[np.generic]) -> float | None:
    """Spearman's rank correlation of values before and after, ties sharing their mean rank.

    Equal to ``scipy.stats.spearmanr`` on the values at :func:`sample_positions`, except where scipy
    gives NaN because a side is constant. A constant reference has no order to keep: None. A constant
    distorted side has kept none of it: 0, the limit as ever more values fall together.

    Args:
        reference: values of any shape.
        distorted: same shape.

    Returns:
        A value in [-1, 1], exactly 1 for equal arrays, or None.

    Raises:
        ValueError: the shapes differ or are empty; a value of the sample is not finite.

    Example:
        >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
        1.0
        >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([9.0, 9.0, 9.0]))
        0.0
    """
    if reference.shape != distorted.shape or not reference.size:
        raise ValueError(f"rank correlation needs two arrays of one shape, not {reference.shape}, {distorted.shape}")
    return correlation(centred_ranks(reference), centred_ranks(distorted))


def correlation(reference: npt.NDArray[np.int64], distorted: npt.NDArray[np.int64]) -> float | None:
    """What :func:`spearman` gives, from the :func:`centred_ranks` of both sides."""
    if not reference.any():
        return None
    if not distorted.any():
        return 0.0
    return int(reference @ distorted) / math.sqrt(int(reference @ reference) * int(distorted @ distorted))


def centred_ranks(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Twice (a value's rank less the mean rank): integers even for ties, so that sums of products are exact.

    Args:
        values: of any shape, at least one.

    Returns:
        Of those at :func:`sample_positions`.

    Raises:
        ValueError: one of them is not finite.
    """
    values = values.reshape(-1)[sample_positions(values.size)]
    if not np.isfinite(values).all():
        raise ValueError("rank correlation needs finite values")
    order = np.argsort(values)
    ranks = np.empty(len(values), np.int64)
    _share_ranks(values[order], order, ranks)
    return ranks


@numba.njit(nogil=True, cache=True)
def _share_ranks(ordered, order, ranks):  # type: ignore[no-untyped-def]  # pragma: no cover
    count, first = len(ordered), 0
    for last in range(count):
        if last + 1 == count or ordered[last + 1] != ordered[last]:
            for place in range(first, last + 1):
                ranks[order[place]] = first + last + 1 - count
            first = last + 1
