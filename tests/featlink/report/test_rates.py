"""BD-rate against direct integration, equal-cost interpolation against the curves themselves."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator

from featlink.report.curves import Curve, at_equal, bd_findings, bd_rate, bd_table, equal_bits_table, equal_psnr_table
from featlink.report.sweep import Sweep
from featlink.results import Row, Scores

CURVE = [(100.0, 0.10), (230.0, 0.24), (500.0, 0.41), (1100.0, 0.47), (2600.0, 0.5)]


@pytest.mark.parametrize("factor", [0.25, 0.9, 1.0, 7.5])
def test_constant_factor(factor: float) -> None:
    result = bd_rate(CURVE, [(bits * factor, ap) for bits, ap in CURVE])
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-9)
    assert result.overlap == 1


def test_against_integration() -> None:
    """The definition, with scipy alone: mean difference of log rate over the shared accuracies."""
    test = [(90.0, 0.05), (150.0, 0.30), (700.0, 0.44), (1500.0, 0.46)]
    curves = [PchipInterpolator([ap for _, ap in points], np.log10([b for b, _ in points])) for points in (CURVE, test)]
    low, high = 0.10, 0.46
    mean = quad(lambda ap: float(curves[1](ap) - curves[0](ap)), low, high, limit=200)[0] / (high - low)
    result = bd_rate(CURVE, test)
    assert result.percent == pytest.approx(100 * (10**mean - 1), rel=1e-6)
    assert result.overlap == pytest.approx((high - low) / (0.5 - 0.05))


def test_dominated_points_do_not_count() -> None:
    wasteful = [*CURVE, (3000.0, 0.45), (150.0, 0.1)]
    assert bd_rate(CURVE, wasteful) == bd_rate(CURVE, CURVE)


def test_what_is_not_defined_says_why() -> None:
    worse = [(10.0, 0.01), (20.0, 0.02), (30.0, 0.03)]
    assert bd_rate(CURVE, worse).reason == "the curves share no accuracy"
    assert bd_rate(CURVE, CURVE[:2]).reason == "5 and 2 points on the Pareto fronts, 3 are needed"
    assert bd_rate(CURVE, [(100.0, 0.1), (100.0, 0.2), (100.0, 0.3)]).reason == "bits do not change with the strength"
    assert bd_rate(CURVE, []).percent is None


values = st.floats(0.01, 1)
points = st.lists(
    st.tuples(st.integers(0, 1000).map(float), values), min_size=2, max_size=6, unique_by=lambda point: point[0]
)


@given(points, points)
def test_equal_positions_lie_on_both_curves(
    feature: list[tuple[float, float]], image: list[tuple[float, float]]
) -> None:
    for x in at_equal(feature, image):
        for points in (sorted(feature), sorted(image)):
            y, drawn = Curve("curve", points).at(x)
            (x0, y0), (x1, y1) = next((a, b) for a, b in itertools.pairwise(points) if a[0] <= x <= b[0])
            on_line = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
            assert math.isclose(y, on_line, rel_tol=1e-6, abs_tol=1e-6)
            assert drawn is None


def row(text: str, ap: float, bits: float, psnr: float) -> Row:
    scores: Scores = {"AP": ap}
    return Row(text, text, text.partition(":")[0], 1, scores, None, bits, bits, {"psnr_f": psnr}, {}, [])


def vvenc(aps: dict[str, list[float]], bits: dict[str, list[float]]) -> Sweep:
    rows = [
        row(f"{domain}: vvenc(qp={qp})", aps[domain][i], bits[domain][i], 40.0 - i)
        for domain in ("feature", "image")
        for i, qp in enumerate((22, 32, 42))
    ]
    return Sweep(Path(), rows, {})


def test_features_of_half_the_bits() -> None:
    sweep = vvenc(
        {"feature": [0.5, 0.4, 0.2], "image": [0.5, 0.4, 0.2]},
        {"feature": [4e6, 2e6, 1e6], "image": [8e6, 4e6, 2e6]},
    )
    table = bd_table(sweep)
    assert table is not None
    assert [list(line) for line in table.rows] == [["vvenc", "bbox", "−50.0 %", "3 / 3", "100"]]
    assert bd_findings(sweep) == [
        "vvenc: at equal AP, features need 50 % fewer bits (BD-rate, of 3 points: indicative)."
    ]
    equal = equal_bits_table(sweep)
    assert equal is not None
    assert [list(line) for line in equal.rows] == [
        ["vvenc", "250.0", "40.0", "20.0", "+20.0"],  # 2 Mbit
        ["vvenc", "353.6", "45.0", "30.0", "+15.0"],  # halfway, in log bits
        ["vvenc", "500.0", "50.0", "40.0", "+10.0"],
    ]


def test_equal_psnr() -> None:
    bits = [4e6, 2e6, 1e6]
    sweep = vvenc({"feature": [0.5, 0.4, 0.2], "image": [0.3, 0.2, 0.1]}, {"feature": bits, "image": bits})
    table = equal_psnr_table(sweep)
    assert table is not None
    assert [list(line) for line in table.rows] == [
        ["vvenc", "38.0", "20.0", "10.0", "+10.0"],
        ["vvenc", "39.0", "40.0", "20.0", "+20.0"],
        ["vvenc", "40.0", "50.0", "30.0", "+20.0"],
    ]


def test_resize_changes_no_bits() -> None:
    rows = [
        row(f"{domain}: resize(factor={factor})", 0.5 / factor, 8e6 + factor, 40.0 - factor)
        for domain in ("feature", "image")
        for factor in (2, 4, 8)
    ]
    sweep = Sweep(Path(), rows, {})
    assert bd_table(sweep) is None
    assert equal_bits_table(sweep) is None


def test_curves_that_share_no_position() -> None:
    assert at_equal([(0, 1), (1, 2)], [(2, 1), (3, 2)]) == ()
    assert at_equal([(0, 1), (1, 2)], [(0.5, 1)]) == ()
    assert at_equal([], []) == ()
