"""Bjøntegaard delta rate, and its interval over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featlink.report.curve import Curve, Points
from featlink.shared.evaluation.confidence_intervals import Interval, interval
from featlink.shared.evaluation.matching import Floats

LEAST_POINTS = 3
"""Points a curve needs. VCEG-M33 uses four; the paper's tables have three."""

_SAME_BITS = 1.02  # two conditions of the same bits differ by some bytes of header


@dataclass(frozen=True)
class BdRate:
    """Bjøntegaard delta rate, if it is defined.

    Attributes:
        percent: average difference of rate at equal accuracy; -50 is half the bits. None if not defined.
        reason: why it is not defined.
        points: how many points of the anchor's and of the test's curve were used.
        overlap: share of both curves' range of accuracy that both have.
    """

    percent: float | None
    reason: str
    points: tuple[int, int]
    overlap: float = 0.0


def bd_rate(anchor: Points, test: Points, least: int = LEAST_POINTS) -> BdRate:
    """Bjøntegaard delta rate by piecewise cubic (PCHIP) interpolation, with the ``bjontegaard`` package.

    A curve is its Pareto front: a point that costs more bits than another for no more accuracy is left out, since
    rate must be a function of accuracy.

    Args:
        anchor: (bits, accuracy) points of the reference.
        test: of what is compared with it.
        least: how many points each front needs.

    Example:
        >>> bd_rate([(100, 1), (200, 2), (400, 3)], [(50, 1), (100, 2), (200, 3)])
        BdRate(percent=-50.0, reason='', points=(3, 3), overlap=1.0)
        >>> bd_rate([(100, 1), (200, 2), (400, 3)], [(50, 4), (100, 5), (200, 6)]).reason
        'the curves share no accuracy'
    """
    fronts = [_front(anchor), _front(test)]
    counts = (len(fronts[0]), len(fronts[1]))
    if not all(bits_vary([bits for bits, _ in points]) for points in (anchor, test)):
        return BdRate(None, "bits do not change with the strength", counts)
    if min(counts) < least:
        return BdRate(None, f"{counts[0]} and {counts[1]} points on the Pareto fronts, {least} are needed", counts)
    (rate_a, accuracy_a), (rate_t, accuracy_t) = (np.array(front).T for front in fronts)
    low, high = max(accuracy_a[0], accuracy_t[0]), min(accuracy_a[-1], accuracy_t[-1])
    if low >= high:
        return BdRate(None, "the curves share no accuracy", counts)
    import bjontegaard  # loads matplotlib

    value = bjontegaard.bd_rate(
        rate_a, accuracy_a, rate_t, accuracy_t, method="pchip", require_matching_points=False, min_overlap=0
    )
    span = max(accuracy_a[-1], accuracy_t[-1]) - min(accuracy_a[0], accuracy_t[0])
    return BdRate(float(value), "", counts, float((high - low) / span))


def bits_vary(bits: Sequence[float]) -> bool:
    """Whether bits change by more than headers do.

    Example:
        >>> bits_vary([8_000_100, 8_000_180]), bits_vary([8_000_000, 4_000_000]), bits_vary([])
        (False, True, False)
    """
    return bool(bits) and max(bits) > _SAME_BITS * min(bits)


def _front(points: Points) -> list[tuple[float, float]]:
    """By rising bits, only points more accurate than all cheaper ones."""
    front: list[tuple[float, float]] = []
    for bits, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((bits, accuracy))
    return front


def bd_interval(anchor: Curve, test: Curve, least: int = LEAST_POINTS) -> Interval | None:
    """The 95 % bootstrap interval of :func:`bd_rate` over images, in percent.

    Every draw has its own AP and bits for both curves, of the same images.

    Returns:
        None without draws, or where BD-rate is not defined in more than a tenth of them.
    """
    if anchor.draws is None and test.draws is None:
        return None
    from featlink.report.bd_draws import bd_of_draws  # Numba is loaded where it is used

    count = max(len(curve.draws[0]) for curve in (anchor, test) if curve.draws is not None)
    if not count or not all(curve.points for curve in (anchor, test)):
        return None
    (bits_a, accuracy_a), (bits_t, accuracy_t) = _drawn(anchor, count), _drawn(test, count)
    return interval(bd_of_draws(bits_a, accuracy_a, bits_t, accuracy_t, least))


def _drawn(curve: Curve, count: int) -> tuple[Floats, Floats]:
    """Bits and accuracy in each draw, (B, P) each; a curve without draws is the same in all."""
    if curve.draws is not None:
        bits, accuracy = curve.draws
        return np.ascontiguousarray(bits), np.ascontiguousarray(accuracy)
    bits, accuracy = np.array(curve.points).T
    return np.tile(bits, (count, 1)), np.tile(accuracy, (count, 1))
