"""Quantisation against the paper's formula in float64; tiling against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink.shared.frames.packing import dequantize, grid, level_range, quantize, stack, tile, unstack, untile

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


@settings(max_examples=150)
@given(levels(), BITS, PER)
def test_quantize_rounds_the_formula_to_nearest(level: np.ndarray, bits: int, per: str) -> None:
    ranges = level_range(level, per)
    exact = formula(level, ranges, bits)
    samples = quantize(level, ranges, bits)
    assert samples.dtype == (np.uint8 if bits <= 8 else np.uint16)
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3
    np.testing.assert_array_equal(samples[clear], np.rint(exact)[clear])
    assert np.abs(samples - exact).max() < 0.501


@settings(max_examples=150)
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


@pytest.mark.parametrize("bits", [1, 8, 9, 16])
@pytest.mark.parametrize("ends", [(0, 1e-44), (-1e-38, 1e-38), (1e-30, 2e-30), (7, 7.000001), (-3e38, 3e38)])
def test_ranges_at_the_limits_of_float32_are_used_in_full(ends: tuple[float, float], bits: int) -> None:
    level = np.array(ends, np.float32).reshape(1, 1, 2)
    assert quantize(level, level_range(level), bits).ravel().tolist() == [0, 2**bits - 1]


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


def distinct(height: int, width: int, dtype: type = np.uint16) -> np.ndarray:
    """A level whose samples differ as far as the dtype can say."""
    return np.arange(256 * height * width).reshape(256, height, width).astype(dtype)


def part(plane: np.ndarray, row: int, column: int, height: int, width: int) -> np.ndarray:
    """The tile in this row and column of a grid."""
    return plane[row * height : (row + 1) * height, column * width : (column + 1) * width]


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([16, 32, 64, 128, 256]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_channel_k_is_tile_k_div_columns_k_mod_columns(height: int, width: int, columns: int, dtype: type) -> None:
    level = distinct(height, width, dtype)
    plane = tile(level, columns)
    assert plane.shape == (256 // columns * height, columns * width)
    for k in (0, 1, 15, 16, 31, 100, 255):
        np.testing.assert_array_equal(part(plane, k // columns, k % columns, height, width), level[k])
    np.testing.assert_array_equal(untile(plane, 256, columns), level)


def test_16_columns_are_the_default() -> None:
    level = distinct(2, 3)
    np.testing.assert_array_equal(tile(level), tile(level, 16))
    np.testing.assert_array_equal(untile(tile(level), 256), level)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5))
def test_stacked_levels_stand_under_each_other(height: int, width: int, count: int) -> None:
    sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in range(count)]
    levels = {f"p{k + 2}": distinct(*size) for k, size in enumerate(sizes)}
    plane = stack(levels)
    assert plane.shape[1] == max(16 * 2**k * size[1] for k, size in enumerate(sizes))
    top = 0
    for k, level in enumerate(levels.values()):
        columns, (_, rows, _) = 16 * 2**k, level.shape
        band = plane[top : top + 256 // columns * rows]
        tiles = tile(level, columns)
        np.testing.assert_array_equal(band[:, : tiles.shape[1]], tiles)
        assert (band[:, tiles.shape[1] :] == tiles[:, -1:]).all(), "extended by the last column"
        top += len(band)
    assert top == len(plane)
    back = unstack(plane, {name: level.shape for name, level in levels.items()})
    assert list(back) == list(levels)
    for name, level in levels.items():
        np.testing.assert_array_equal(back[name], level)


@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 4))
def test_any_number_of_channels_comes_back(channels: int, height: int, width: int) -> None:
    level = distinct(height, width)[np.arange(channels) % 256]
    plane = tile(level)
    rows, columns = grid(channels)
    assert plane.shape == (rows * height, columns * width)
    assert rows <= columns or channels == 2
    assert columns <= 2 * np.ceil(np.sqrt(channels))
    np.testing.assert_array_equal(untile(plane, channels), level)
    for k in range(channels, rows * columns):
        empty = part(plane, k // columns, k % columns, height, width)
        assert (empty == level[-1, -1, -1]).all(), "flat"


def test_planes_that_are_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="grid"):
        untile(np.zeros((16, 17), np.uint8), 256)


def test_levels_of_any_channels_stack() -> None:
    rng = np.random.default_rng(0)
    levels = {
        name: rng.integers(0, 255, shape, np.uint8)
        for name, shape in {"a": (7, 12, 16), "b": (20, 6, 8), "c": (3, 3, 4)}.items()
    }
    parts = unstack(stack(levels), {name: level.shape for name, level in levels.items()})
    for name, level in levels.items():
        np.testing.assert_array_equal(parts[name], level)
