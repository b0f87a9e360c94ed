"""BD-rate of draws: in every draw what the ``bjontegaard`` package says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from featlink.report.curves import Curve, bd_of_draws, bd_rate, compare

accuracy = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
point = st.tuples(st.floats(1, 1e4), accuracy)
points = st.lists(point, min_size=1, max_size=6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60)
@example([(1.0, 0.0), (2.0, 0.5), (3.0, 1.0)], [(1.0, 0.0), (2.0, 3.6e-252), (3.0, 1.0)])
@example([(1.0, 0.0), (2.0, 0.5), (3.0, 1.0)], [(1.0, 0.0), (2.0, 2.3e-311), (3.0, 1.0)])
@given(points, points)
def test_each_draw_is_that_of_the_package(anchor: list[tuple[float, float]], test: list[tuple[float, float]]) -> None:
    expected = bd_rate(anchor, test)
    if "bits do not change" in expected.reason:
        return  # the draws are of curves whose bits do
    [found] = bd_of_draws(*(np.array(side).T[:, None, :] for side in (anchor, test)), 3)
    if expected.percent is None:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(expected.percent, rel=1e-6, abs=1e-6)


def test_the_interval_holds_the_spread_of_the_bits() -> None:
    rng = np.random.default_rng(0)
    bits, accuracy = np.array([100.0, 200, 400, 800]), np.array([0.1, 0.2, 0.3, 0.4])
    factors = np.exp(rng.normal(0, 0.1, (1000, 1)))
    anchor = Curve("a", list(zip(bits, accuracy, strict=True)))
    test = Curve("b", list(zip(bits, accuracy, strict=True)), (bits * factors, np.tile(accuracy, (1000, 1))))
    found = compare(anchor, test).interval
    assert found == pytest.approx(tuple(100 * (np.percentile(factors, [2.5, 97.5]) - 1)), abs=0.01)
    assert compare(anchor, anchor).interval is None
