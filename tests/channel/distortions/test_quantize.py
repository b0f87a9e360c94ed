"""Requantisation of samples, and what a registered distortion is."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from featlink.channel.distortions.base import Distortion, Planes
from featlink.channel.distortions.quantize import Quantize, requantize
from featlink.shared.frames.bitstream import dtype_for

BITS = st.integers(1, 16)


RANGES = np.array([[-1, 2]], np.float32)


def every(bits: int) -> np.ndarray:
    """Each sample value once."""
    return np.arange(2**bits).astype(dtype_for(bits)).reshape(1, 1, -1)


def quantized(planes: Planes, bits: int) -> Planes:
    return Quantize(bits=bits).apply(planes, np.random.default_rng(0))


@given(BITS, BITS)
def test_samples_go_to_the_nearest_of_the_other_depth(bits: int, to_bits: int) -> None:
    samples = requantize(every(bits), bits, to_bits)
    exact = np.arange(2**bits) * (2**to_bits - 1) / (2**bits - 1)
    assert samples.dtype == dtype_for(to_bits)
    assert np.abs(samples.ravel() - exact).max() <= 0.5 + 1e-9
    assert (samples.min(), samples.max()) == (0, 2**to_bits - 1)


@given(BITS, BITS)
def test_more_bits_lose_nothing(bits: int, more: int) -> None:
    to_bits = max(bits, more)
    there = requantize(every(bits), bits, to_bits)
    np.testing.assert_array_equal(requantize(there, to_bits, bits), every(bits))


@given(BITS, BITS)
def test_again_changes_nothing(bits: int, to_bits: int) -> None:
    once = quantized(Planes(every(bits), bits, RANGES), to_bits)
    assert once.bits == to_bits
    assert once.ranges is RANGES
    twice = quantized(once, to_bits)
    np.testing.assert_array_equal(once.samples, twice.samples)


def test_the_planes_given_are_not_written_to() -> None:
    samples = every(8)
    samples.flags.writeable = False
    quantized(Planes(samples, 8, RANGES), 3)
    np.testing.assert_array_equal(samples, every(8))


@pytest.mark.parametrize("bits", [0, 17, -1, 2.5, "many", None, float("nan")])
def test_impossible_depths_are_refused(bits: object) -> None:
    with pytest.raises(ValidationError):
        Quantize(bits=bits)


class Strength(Distortion):
    """A distortion with a real parameter."""

    type: Literal["strength"] = "strength"
    sigma: float

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        return planes


@pytest.mark.parametrize("sigma", ["nan", "inf", "-Infinity", float("nan"), float("inf")])
def test_no_parameter_of_a_distortion_is_infinite(sigma: str | float) -> None:
    """In a condition's text ``nan`` is a word, which pydantic would read as a number."""
    with pytest.raises(ValidationError, match="finite number"):
        Strength(sigma=sigma)
