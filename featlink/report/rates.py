"""Features against pixels at equal accuracy, equal bits and equal PSNR."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from featlink.report.families import Family, families, pair_name, pairs
from featlink.report.sweep import Sweep
from featlink.report.table import MISSING, Column, Table, number, percent, signed
from featlink.results import Row

LEAST_POINTS = 3
"""Points a curve needs. VCEG-M33 uses four; the paper's tables have three."""

_MOST = 0.5
_SAME_BITS = 1.02  # two conditions of the same bits differ by some bytes of header

Points = Sequence[tuple[float, float]]


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


def bd_rate(anchor: Points, test: Points) -> BdRate:
    """Bjøntegaard delta rate by piecewise cubic (PCHIP) interpolation, with the ``bjontegaard`` package.

    A curve is its Pareto front: a point that costs more bits than another for no more accuracy is left out, since
    rate must be a function of accuracy.

    Args:
        anchor: (bits, accuracy) points of the reference.
        test: of what is compared with it.

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
    if min(counts) < LEAST_POINTS:
        return BdRate(
            None, f"{counts[0]} and {counts[1]} points on the Pareto fronts, {LEAST_POINTS} are needed", counts
        )
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


def at_equal(feature: Points, image: Points) -> list[tuple[float, float, float]]:
    """Both curves' values at the least, middle and greatest position they share, linear between points.

    Args:
        feature: (position, value) points.
        image: the same.

    Returns:
        (position, feature's value, image's value); empty where the curves share no stretch of positions.

    Example:
        >>> at_equal([(0, 0), (10, 10)], [(5, 0), (20, 30)])[-1]
        (10.0, 10.0, 10.0)
    """
    curves = [np.array(sorted(points)).reshape(-1, 2).T for points in (feature, image)]
    if any(curve.shape[1] < 2 for curve in curves):
        return []
    low, high = max(curve[0, 0] for curve in curves), min(curve[0, -1] for curve in curves)
    if low >= high:
        return []
    a, b = curves
    return [(float(x), float(np.interp(x, *a)), float(np.interp(x, *b))) for x in (low, (low + high) / 2, high)]


def rate_pairs(sweep: Sweep) -> list[tuple[Family, Family]]:
    """Pairs of families whose strength trades bits for accuracy, with more than one strength in each."""
    return [pair for pair in pairs(families(sweep.rows)) if pair[0].changes_bits and _curves(pair)]


def bd_findings(sweep: Sweep) -> list[str]:
    """BD-rates in words: one sentence per family whose curves share most of their accuracies."""
    ap, found = _ap(sweep), []
    for feature, image in rate_pairs(sweep):
        result = bd_rate(_points(image, _bits, ap), _points(feature, _bits, ap))
        if result.percent is not None and result.overlap >= _MOST:
            bits = f"{abs(result.percent):,.0f} % {'more' if result.percent > 0 else 'fewer'} bits"
            few = "" if min(result.points) > LEAST_POINTS else f", of {LEAST_POINTS} points: indicative"
            found.append(f"{pair_name(feature, image)}: at equal AP, features need {bits} (BD-rate{few}).")
    return found


def bd_table(sweep: Sweep) -> Table | None:
    """BD-rate of features against the image, by family and kind of AP; None where there is no such family."""
    rows = []
    for feature, image in rate_pairs(sweep):
        for kind in sweep.kinds:
            ap = _ap(sweep, kind)
            result = bd_rate(_points(image, _bits, ap), _points(feature, _bits, ap))
            told = f"{signed(result.percent)} %" if result.percent is not None else f"not defined: {result.reason}"
            overlap = percent(result.overlap, 0) if result.percent is not None else MISSING
            rows.append([pair_name(feature, image), kind, told, f"{result.points[0]} / {result.points[1]}", overlap])
    if not rows:
        return None
    columns = [Column("family", number=False), Column("AP", number=False), Column("BD-rate of features", number=False)]
    notes = (
        "Average difference of bits at equal AP; −50 % means that features need half the image's bits. PCHIP through "
        f"the Pareto front of each curve, at least {LEAST_POINTS} points; VCEG-M33 uses four, so values of three are "
        "indicative. Overlap: share of the range of AP that both curves cover.",
    )
    caption = "BD-rate (Bjøntegaard): features against the image at equal AP"
    return Table(caption, [*columns, Column("points image / features"), Column("overlap %")], rows, notes)


def equal_bits_table(sweep: Sweep) -> Table | None:
    """AP of both domains where they cost the same bits, by family; None where no two curves share a rate."""
    rows = []
    for pair in rate_pairs(sweep):
        if all(bits_vary([row.bits_per_image for row in family.rows]) for family in pair):
            at = at_equal(*(_points(one, lambda row: math.log10(row.bits_per_image), _ap(sweep)) for one in pair))
            rows += [[pair_name(*pair), number(10**x / 8000, 1), *_difference(f, i)] for x, f, i in at]
    caption = "AP at equal bits, linear in log bits between the measured strengths"
    return _equal_table(sweep, caption, "kB per image", rows)


def equal_psnr_table(sweep: Sweep) -> Table | None:
    """AP of both domains where the heads get pyramids of the same PSNR[F]; None where no two curves share one."""
    rows = []
    for pair in pairs(families(sweep.rows)):
        at = at_equal(*(_points(one, lambda row: row.fidelity.get("psnr_f"), _ap(sweep)) for one in pair))
        rows += [[pair_name(*pair), number(x, 1), *_difference(f, i)] for x, f, i in at]
    caption = "AP at equal PSNR[F] of what the heads get, linear between the measured strengths"
    return _equal_table(sweep, caption, "PSNR[F] dB", rows)


def _equal_table(sweep: Sweep, caption: str, position: str, rows: list[list[str]]) -> Table | None:
    if not rows:
        return None
    columns = [Column("family", number=False), Column(position)]
    columns += [Column(title, f"AP {sweep.kind} %") for title in ("feature", "image", "difference")]
    return Table(caption, columns, rows, ("The ends and the middle of the stretch that both domains' curves cover.",))


def _difference(feature: float, image: float) -> list[str]:
    return [percent(feature), percent(image), signed(100 * (feature - image))]


def _curves(pair: tuple[Family, Family]) -> bool:
    return all(len(family.rows) > 1 for family in pair)


def _bits(row: Row) -> float | None:
    return row.bits_per_image


def _ap(sweep: Sweep, kind: str | None = None) -> Callable[[Row], float | None]:
    return lambda row: sweep.ap(row, kind)


def _points(
    family: Family, x: Callable[[Row], float | None], y: Callable[[Row], float | None]
) -> list[tuple[float, float]]:
    """A family's points, without rows that lack a value."""
    values = ((x(row), y(row)) for row in family.rows)
    return [(a, b) for a, b in values if a is not None and b is not None]
