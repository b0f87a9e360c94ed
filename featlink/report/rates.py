"""Features against pixels at equal accuracy, equal bits and equal PSNR."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from featlink.report.bd import LEAST_POINTS, bd_interval, bd_rate, bits_vary
from featlink.report.curve import Curve, Points, family_curve
from featlink.report.families import Family, families, pair_name, pairs
from featlink.report.sweep import Sweep
from featlink.report.table import MISSING, Column, Table, number, percent, signed, with_interval
from featlink.results import Row
from featlink.shared.evaluation.confidence_intervals import Interval, interval
from featlink.shared.evaluation.matching import Floats

_MOST = 0.5


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
    found = []
    for feature, image in rate_pairs(sweep):
        anchor, test = (family_curve(sweep, one) for one in (image, feature))
        result = bd_rate(anchor.points, test.points)
        if result.percent is not None and result.overlap >= _MOST:
            bits = f"{abs(result.percent):,.0f} % {'more' if result.percent > 0 else 'fewer'} bits"
            few = "" if min(result.points) > LEAST_POINTS else f", of {LEAST_POINTS} points: indicative"
            ends = bd_interval(anchor, test)
            sure = "" if ends is None else f", 95 % interval {signed(ends[0], 0)} to {signed(ends[1], 0)} %"
            found.append(f"{pair_name(feature, image)}: at equal AP, features need {bits} (BD-rate{sure}{few}).")
    return found


def bd_cell(anchor: Curve, test: Curve, least: int = LEAST_POINTS) -> str:
    """BD-rate with its interval, or why there is none."""
    result = bd_rate(anchor.points, test.points, least)
    if result.percent is None:
        return f"not defined: {result.reason}"
    return with_interval(f"{signed(result.percent)} %", bd_interval(anchor, test, least), 1)


def bd_table(sweep: Sweep) -> Table | None:
    """BD-rate of features against the image, by family and kind of AP; None where there is no such family."""
    rows = []
    for feature, image in rate_pairs(sweep):
        for kind in sweep.kinds:
            anchor, test = (family_curve(sweep, one, kind) for one in (image, feature))
            result = bd_rate(anchor.points, test.points)
            told = bd_cell(anchor, test)
            overlap = percent(result.overlap, 0) if result.percent is not None else MISSING
            rows.append([pair_name(feature, image), kind, told, f"{result.points[0]} / {result.points[1]}", overlap])
    if not rows:
        return None
    columns = [Column("family", number=False), Column("AP", number=False), Column("BD-rate of features", number=False)]
    notes = (
        "Average difference of bits at equal AP; −50 % means that features need half the image's bits. PCHIP through "
        f"the Pareto front of each curve, at least {LEAST_POINTS} points; VCEG-M33 uses four, so values of three are "
        "indicative. In brackets, the 95 % bootstrap interval over images. Overlap: share of the range of AP that both "
        "curves cover.",
    )
    caption = "BD-rate (Bjøntegaard): features against the image at equal AP"
    return Table(caption, [*columns, Column("points image / features"), Column("overlap %")], rows, notes)


def equal_bits_table(sweep: Sweep) -> Table | None:
    """AP of both domains where they cost the same bits, by family; None where no two curves share a rate."""
    rows = []
    for pair in rate_pairs(sweep):
        if all(bits_vary([row.bits_per_image for row in family.rows]) for family in pair):
            at = at_equal(*(_points(one, _log_bits, _ap(sweep)) for one in pair))
            rows += [
                [pair_name(*pair), number(10**x / 8000, 1), *_difference(sweep, pair, _log_bits, x, f, i)]
                for x, f, i in at
            ]
    caption = "AP at equal bits, linear in log bits between the measured strengths"
    return _equal_table(sweep, caption, "kB per image", rows)


def equal_psnr_table(sweep: Sweep) -> Table | None:
    """AP of both domains where the heads get pyramids of the same PSNR[F]; None where no two curves share one."""
    rows = []
    for pair in pairs(families(sweep.rows)):
        at = at_equal(*(_points(one, _psnr, _ap(sweep)) for one in pair))
        rows += [[pair_name(*pair), number(x, 1), *_difference(sweep, pair, _psnr, x, f, i)] for x, f, i in at]
    caption = "AP at equal PSNR[F] of what the heads get, linear between the measured strengths"
    return _equal_table(sweep, caption, "PSNR[F] dB", rows)


def _equal_table(sweep: Sweep, caption: str, position: str, rows: list[list[str]]) -> Table | None:
    if not rows:
        return None
    columns = [Column("family", number=False), Column(position)]
    columns += [Column(title, f"AP {sweep.kind} %") for title in ("feature", "image", "difference")]
    return Table(caption, columns, rows, ("The ends and the middle of the stretch that both domains' curves cover.",))


_Position = Callable[[Row], float | None]


def _log_bits(row: Row) -> float:
    return math.log10(row.bits_per_image)


def _psnr(row: Row) -> float | None:
    return row.fidelity.get("psnr_f")


def _difference(
    sweep: Sweep, pair: tuple[Family, Family], position: _Position, at: float, feature: float, image: float
) -> list[str]:
    """Both curves' AP at a position and their difference, with intervals that hold the position fixed."""
    drawn = [_drawn_at(sweep, family, position, at) for family in pair]
    ends: list[Interval | None] = [None if one is None else interval(one) for one in drawn]
    f, i = drawn
    ends.append(None if f is None or i is None else interval(f - i))
    texts = [percent(feature), percent(image), signed(100 * (feature - image))]
    return [with_interval(text, found) for text, found in zip(texts, ends, strict=True)]


def _drawn_at(sweep: Sweep, family: Family, position: _Position, at: float) -> Floats | None:
    """AP in each bootstrap draw, linear between a curve's points; None without draws."""
    places = [(x, row) for row in family.rows if (x := position(row)) is not None and sweep.ap(row) is not None]
    places.sort(key=lambda place: place[0])
    drawn = [sweep.draws(row) for _, row in places]
    if any(one is None or not len(one) for one in drawn):
        return None
    shares = [np.interp(at, [x for x, _ in places], unit) for unit in np.eye(len(places))]
    return np.stack(drawn, axis=1) @ np.array(shares)  # type: ignore[arg-type]  # none is None


def _curves(pair: tuple[Family, Family]) -> bool:
    return all(len(family.rows) > 1 for family in pair)


def _ap(sweep: Sweep, kind: str | None = None) -> Callable[[Row], float | None]:
    return lambda row: sweep.ap(row, kind)


def _points(
    family: Family, x: Callable[[Row], float | None], y: Callable[[Row], float | None]
) -> list[tuple[float, float]]:
    """A family's points, without rows that lack a value."""
    values = ((x(row), y(row)) for row in family.rows)
    return [(a, b) for a, b in values if a is not None and b is not None]
