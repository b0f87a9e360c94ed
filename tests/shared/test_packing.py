"""Quantisation against the paper's formula in float64; tiling against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.packing import dequantize, level_range, quantize, tile, untile

BITS = st.integers(1, 16)
PER = st.sampled_from(["level", "channel"])


@st.composite
def levels(draw: st.DrawFn) -> np.ndarray:
    """Levels of any position and spread, from subnormal to huge, with values on and beside rounding ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40)))
    spread = 10.0 ** draw(st.integers(-40, 37))
    offset = spread * draw(st.sampled_from([0, -0.5, 1, -3, 30, -1000, 1e6]))
    unit = rng.random(shape)
    ties = (rng.integers(0, 255, shape) + 0.5) / 255
    level = offset + spread * np.where(rng.random(shape) < 0.5, unit, ties)
    return np.clip(level, -3e38, 3e38).astype(np.float32)


def formula(level: np.ndarray, ranges: np.ndarray, bits: int) -> np.ndarray:
    """(F - m)·(2^t - 1)/(M - m) in float64, before rounding; 0 where M = m."""
    low, high = (ranges[:, side, None, None].astype(np.float64) for side in (0, 1))
    span = np.where(high > low, high - low, 1)
    return (level.astype(np.float64) - low) * (2**bits - 1) / span


@settings(max_examples=300)
@given(levels(), BITS, PER)
def test_quantize_rounds_the_formula_to_nearest(level: np.ndarray, bits: int, per: str) -> None:
    ranges = level_range(level, per)
    exact = formula(level, ranges, bits)
    samples = quantize(level, ranges, bits)
    assert samples.dtype == (np.uint8 if bits <= 8 else np.uint16)
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3
    np.testing.assert_array_equal(samples[clear], np.rint(exact)[clear])
    assert np.abs(samples - exact).max() < 0.501


@settings(max_examples=300)
@given(levels(), BITS, PER)
def test_the_ends_of_the_range_are_exact(level: np.ndarray, bits: int, per: str) -> None:
    ranges = level_range(level, per)
    samples = quantize(level, ranges, bits)
    low, high = (np.broadcast_to(ranges[:, side, None, None], level.shape) for side in (0, 1))
    back = dequantize(samples, ranges, bits)
    assert (samples[level == low] == 0).all()
    assert (samples[(level == high) & (high > low)] == 2**bits - 1).all()
    np.testing.assert_array_equal(back[level == low], level[level == low])
    np.testing.assert_array_equal(back[level == high], level[level == high])


@given(levels(), BITS, PER)
def test_dequantize_is_the_formula(level: np.ndarray, bits: int, per: str) -> None:
    ranges = level_range(level, per)
    samples = np.random.default_rng(0).integers(0, 2**bits, level.shape).astype(np.uint8 if bits <= 8 else np.uint16)
    low, high = (ranges[:, side, None, None].astype(np.float64) for side in (0, 1))
    expected = samples * (high - low) / (2**bits - 1) + low
    back = dequantize(samples, ranges, bits)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, expected, rtol=1e-6, atol=1e-6 * float(np.abs(ranges).max()) + 1e-44)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), BITS, PER)
def test_a_constant_level_is_all_zeros_and_comes_back(value: float, bits: int, per: str) -> None:
    level = np.full((3, 2, 5), value, np.float32)
    ranges = level_range(level, per)
    samples = quantize(level, ranges, bits)
    assert not samples.any()
    np.testing.assert_array_equal(dequantize(samples, ranges, bits), level)


@pytest.mark.parametrize("per", ["level", "channel"])
def test_ranges_are_the_extremes(per: str) -> None:
    level = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    groups = [level] if per == "level" else list(level)
    np.testing.assert_array_equal(level_range(level, per), [[group.min(), group.max()] for group in groups])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("per", ["level", "channel"])
def test_values_that_are_not_finite_are_refused(bad: float, per: str) -> None:
    level = np.zeros((3, 4, 5), np.float32)
    level[1, 2, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        level_range(level, per)


def test_quantize_does_not_write_to_its_input() -> None:
    level = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    before = level.copy()
    level.flags.writeable = False
    quantize(level, level_range(level), 8)
    np.testing.assert_array_equal(level, before)


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_channel_k_is_tile_k_div_16_k_mod_16(height: int, width: int, dtype: type) -> None:
    level = np.arange(256 * height * width).reshape(256, height, width).astype(dtype)
    plane = tile(level)
    assert plane.shape == (16 * height, 16 * width)
    for k in (0, 1, 15, 16, 100, 255):
        row, column = divmod(k, 16)
        rows, columns = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
        np.testing.assert_array_equal(plane[rows, columns], level[k])
    np.testing.assert_array_equal(untile(plane), level)


def test_other_channel_counts_and_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="256 channels, not 255"):
        tile(np.zeros((255, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="grid"):
        untile(np.zeros((16, 17), np.uint8))
