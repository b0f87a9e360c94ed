"""BD-rate in every bootstrap draw at once: the arithmetic of SciPy's PCHIP, compiled."""

from __future__ import annotations

import numba
import numpy as np

from featlink.shared.evaluation.matching import Floats


@numba.njit(cache=True, nogil=True)
def bd_of_draws(
    anchor_bits: Floats, anchor_accuracy: Floats, test_bits: Floats, test_accuracy: Floats, least: int
) -> Floats:
    """BD-rate in percent, as :func:`featlink.report.bd.bd_rate` defines it.

    Args:
        anchor_bits: (B, P) of the reference's points.
        anchor_accuracy: (B, P); NaN where a draw lacks a point.
        test_bits: (B, Q).
        test_accuracy: (B, Q).
        least: how many points each front needs, 2 or more.

    Returns:
        (B,), NaN where it is not defined.
    """
    values = np.full(len(anchor_bits), np.nan)
    for b in range(len(values)):
        rate_a, accuracy_a = _front(anchor_bits[b], anchor_accuracy[b])
        rate_t, accuracy_t = _front(test_bits[b], test_accuracy[b])
        if min(len(rate_a), len(rate_t)) < least:
            continue
        low, high = max(accuracy_a[0], accuracy_t[0]), min(accuracy_a[-1], accuracy_t[-1])
        if low >= high:
            continue
        difference = _integral(accuracy_t, np.log10(rate_t), low, high)
        difference -= _integral(accuracy_a, np.log10(rate_a), low, high)
        values[b] = 100 * (10 ** (difference / (high - low)) - 1)
    return values


@numba.njit(cache=True, nogil=True)
def _front(bits: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """By rising bits, only points more accurate than all cheaper ones."""
    order = np.argsort(bits)
    kept_bits, kept_accuracy, count = np.empty(len(bits)), np.empty(len(bits)), 0
    for i in order:
        if np.isnan(accuracy[i]):
            continue
        if count and kept_bits[count - 1] == bits[i] and accuracy[i] > kept_accuracy[count - 1]:
            count -= 1  # of two at the same bits, the more accurate
            while count and kept_accuracy[count - 1] >= accuracy[i]:
                count -= 1
        if not count or accuracy[i] > kept_accuracy[count - 1]:
            kept_bits[count], kept_accuracy[count] = bits[i], accuracy[i]
            count += 1
    return kept_bits[:count], kept_accuracy[:count]


@numba.njit(cache=True, nogil=True)
def _slopes(x: Floats, y: Floats) -> Floats:
    """Fritsch and Butland's (1984) monotone slopes, with three-point ends."""
    n = len(x)
    h, delta = np.diff(x), np.diff(y) / np.diff(x)
    slopes = np.zeros(n)
    if n == 2:
        slopes[:] = delta[0]
        return slopes
    for k in range(1, n - 1):
        if delta[k - 1] * delta[k] > 0:
            before, after = 2 * h[k] + h[k - 1], h[k] + 2 * h[k - 1]
            slopes[k] = (before + after) / (before / delta[k - 1] + after / delta[k])
    slopes[0] = _end(h[0], h[1], delta[0], delta[1])
    slopes[-1] = _end(h[-1], h[-2], delta[-1], delta[-2])
    return slopes


@numba.njit(cache=True, nogil=True)
def _end(near: float, far: float, first: float, second: float) -> float:
    slope = ((2 * near + far) * first - near * second) / (near + far)
    if slope * first <= 0:
        return 0.0
    if first * second <= 0 and abs(slope) > 3 * abs(first):
        return 3 * first
    return slope


@numba.njit(cache=True, nogil=True)
def _integral(x: Floats, y: Floats, low: float, high: float) -> float:
    """Of the piecewise cubic from ``low`` to ``high``, which lie within ``x``."""
    slopes = _slopes(x, y)
    total = 0.0
    for k in range(len(x) - 1):
        begin, end = max(low, x[k]), min(high, x[k + 1])
        if begin >= end:
            continue
        h = x[k + 1] - x[k]
        delta = (y[k + 1] - y[k]) / h
        cubic = (slopes[k] + slopes[k + 1] - 2 * delta) / h**2
        square = (3 * delta - 2 * slopes[k] - slopes[k + 1]) / h
        for s, sign in ((end - x[k], 1.0), (begin - x[k], -1.0)):
            total += sign * s * (y[k] + s * (slopes[k] / 2 + s * (square / 3 + s * cubic / 4)))
    return total
