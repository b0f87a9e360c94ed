"""Rank shuffling against its two promises, and against the theory of random permutations."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, spearmanr

from featlink.channel.distortions.rank_shuffle import shuffle_ranks
from featlink.channel.randomness import stream
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError
from featlink.shared.frames.bitstream import dtype_for


def distinct(count: int) -> np.ndarray:
    """All different, so that a sample's value is its rank."""
    return np.random.default_rng(0).permutation(count).astype(np.uint16)


@given(st.integers(1, 16), st.integers(1, 300), st.integers(1, 400), st.integers(0, 99))
def test_histogram_is_kept_and_no_rank_leaves_its_window(bits: int, count: int, span: int, seed: int) -> None:
    samples = np.random.default_rng(seed).integers(0, 1 << bits, count).astype(dtype_for(bits))
    shuffled = shuffle_ranks(samples, span, stream(seed))
    assert shuffled.dtype == samples.dtype
    assert sorted(shuffled) == sorted(samples)
    order = sorted(range(count), key=lambda position: samples[position])
    for start in range(0, count, span):
        window = order[start : start + span]
        assert sorted(shuffled[window]) == sorted(samples[window])


@pytest.mark.parametrize("shape", [(256, 13, 17), (3, 37, 51), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_span_1_is_identity(shape: tuple[int, ...], dtype: type) -> None:
    samples = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    assert (shuffle_ranks(samples, 1, stream(0)) == samples).all()


@pytest.mark.parametrize("span", [100, 1000, 5000, 20_000])
def test_spearman_is_that_of_random_permutations(span: int) -> None:
    # A random permutation of s ranks moves one by d with E d² = (s² - 1)/6
    samples = distinct(20_000)
    correlation = spearmanr(samples, shuffle_ranks(samples, span, stream(0))).statistic
    assert correlation == pytest.approx(1 - (span**2 - 1) / (20_000**2 - 1), abs=0.03)


@pytest.mark.parametrize("count", [3, 7])
def test_every_order_of_a_window_is_as_likely(count: int) -> None:
    rng, samples = stream(0), np.arange(count, dtype=np.uint8)
    seen = Counter(tuple(shuffle_ranks(samples, 4, rng)[count // 4 * 4 :].tolist()) for _ in range(3000))
    assert len(seen) == 6  # the last three samples are a window of their own
    assert chisquare(list(seen.values())).pvalue > 0.01


def test_windows_are_permuted_independently() -> None:
    windows = np.arange(6000, dtype=np.uint16).reshape(-1, 3)
    moves = shuffle_ranks(windows, 3, stream(0)).astype(int) - windows
    _, counts = np.unique(moves, axis=0, return_counts=True)
    assert len(counts) == 6
    assert chisquare(counts).pvalue > 0.01


def test_windows_of_equal_samples_stay() -> None:
    samples = np.repeat(np.arange(4, dtype=np.uint8), 50)
    assert (shuffle_ranks(samples, 25, stream(0)) == samples).all()
    assert (shuffle_ranks(samples, 60, stream(0)) != samples).any()


@pytest.mark.parametrize("wrong", ["span=0", "span=-3", "span=1.5", ""])
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(ConditionError, match="rank_shuffle: span: "):
        chain(parse(f"rank_shuffle({wrong})"))


def test_a_span_beyond_the_level_is_one_window() -> None:
    samples = distinct(50)
    assert sorted(shuffle_ranks(samples, 2**62, stream(0))) == list(range(50))
