"""Spearman's rank correlation against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from featlink.shared.metrics.rank_correlation import SAMPLE, sample_positions, spearman


@pytest.mark.parametrize("size", [1, 2, 57, SAMPLE - 1, SAMPLE, SAMPLE + 1, 217_600, 13_926_400])
def test_sample_is_spread_over_the_whole_array_without_repeats(size: int) -> None:
    positions = sample_positions(size)
    assert len(positions) == min(size, SAMPLE)
    assert positions[0] >= 0
    assert positions[-1] < size
    assert (np.diff(positions) > 0).all()
    assert np.diff(positions).max(initial=0) <= 2 * (size // len(positions) + 1)
    assert np.array_equal(positions, sample_positions(size))


@pytest.mark.parametrize("decimals", [6, 2, 1, 0])
@pytest.mark.parametrize("shape", [(256, 13, 17), (256, 25, 34)])
def test_matches_scipy_on_the_sample(shape: tuple[int, int, int], decimals: int) -> None:
    random = np.random.default_rng(0)
    x = random.normal(0, 1, shape).astype(np.float32)
    y = (x + random.normal(0, 1, shape)).round(decimals).astype(np.float32)  # 0 decimals: about ten values
    positions = sample_positions(x.size)
    expected = spearmanr(x.ravel()[positions], y.ravel()[positions]).statistic
    assert spearman(x, y) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=50))
def test_matches_scipy_on_heavy_ties(values: list[tuple[int, int]]) -> None:
    x, y = np.array(values).T
    if np.ptp(x) == 0:
        assert spearman(x, y) is None
    elif np.ptp(y) == 0:
        assert spearman(x, y) == 0
    else:
        value = spearman(x, y)
        assert value == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)
        assert value == spearman(y, x)
        assert -1 <= value <= 1
        assert spearman(x, x) == 1


def test_order_alone_counts() -> None:
    x = np.random.default_rng(0).normal(0, 1, 300_000)
    assert spearman(x, np.exp(x)) == 1
    assert spearman(x, -x) == -1


def test_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match="one shape"):
        spearman(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="one shape"):
        spearman(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="finite"):
        spearman(np.arange(3.0), np.array([0, np.nan, 1]))
