"""The power law against its closed form; what it keeps against SciPy's rank correlation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from featlink.channel.distortions.base import Planes
from featlink.channel.distortions.monotone import Monotone, power_law
from featlink.channel.randomness import stream
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError
from featlink.shared.frames.bitstream import dtype_for

RANGE = np.array([[0, 1]], np.float32)
GAMMAS = st.floats(1e-3, 1e3)


def mapped(samples: np.ndarray, bits: int, gamma: float) -> np.ndarray:
    return Monotone(gamma=gamma).apply(Planes(samples, bits, RANGE), stream(0)).samples


@given(st.integers(1, 16), GAMMAS)
def test_is_the_rounded_power_law_and_never_reverses_order(bits: int, gamma: float) -> None:
    table, top = power_law(bits, gamma).astype(float), (1 << bits) - 1
    exact = [top * (x / top) ** gamma for x in range(0, top + 1, max(1, top // 50))]
    assert np.abs(table[:: max(1, top // 50)] - exact).max() <= 0.5 + 1e-9
    assert (np.diff(table) >= 0).all()
    assert (table[0], table[-1]) == (0, top)


@pytest.mark.parametrize("gamma", [0.3, 0.8, 1.5, 4])
@pytest.mark.parametrize("bits", [4, 8, 10, 16])
def test_spearman_is_1_on_samples_that_rounding_does_not_merge(bits: int, gamma: float) -> None:
    _, kept = np.unique(power_law(bits, gamma), return_index=True)  # one value of each group that is merged
    samples = np.random.default_rng(0).choice(kept, (3, 40, 50)).astype(dtype_for(bits))
    out = mapped(samples, bits, gamma)
    assert spearmanr(samples.reshape(-1), out.reshape(-1)).statistic == pytest.approx(1, abs=1e-12)
    assert (np.sort(out, axis=None) != np.sort(samples, axis=None)).any()  # the histogram is another


def test_merged_samples_tie_but_never_swap() -> None:
    samples = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    out = mapped(samples, 8, 3.0).reshape(-1)
    assert (np.diff(out.astype(int)) >= 0).all()
    # 255·(x/255)³ < 0.5 up to x = 31
    assert out[:33].tolist() == [0] * 32 + [1]
    assert 0.99 < spearmanr(samples.reshape(-1), out).statistic < 1


@pytest.mark.parametrize("bits", [1, 5, 8, 10, 16])
@pytest.mark.parametrize("shape", [(256, 13, 17), (3, 37, 51), (1, 1, 1)])
def test_every_sample_is_looked_up(shape: tuple[int, ...], bits: int) -> None:
    samples = np.random.default_rng(0).integers(0, 1 << bits, shape).astype(dtype_for(bits))
    assert (mapped(samples, bits, 0.4) == power_law(bits, 0.4)[samples]).all()
    assert (mapped(samples, bits, 1.0) == samples).all()


@pytest.mark.parametrize("wrong", ["gamma=0", "gamma=-1", ""])
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(ConditionError, match="monotone: gamma: "):
        chain(parse(f"monotone({wrong})"))
