"""Noise against the normal law and against NumPy's own stream of normals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest, norm

from featlink.channel.distortions import gaussian_noise
from featlink.channel.distortions.gaussian_noise import add_noise
from featlink.channel.randomness import stream
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError
from featlink.shared.frames.bitstream import dtype_for


def grey(bits: int, shape: tuple[int, ...] = (3, 200, 300)) -> np.ndarray:
    return np.full(shape, 1 << (bits - 1), dtype_for(bits))


@pytest.mark.parametrize(("bits", "rounding"), [(16, 0), (8, 1 / 12)])
@pytest.mark.parametrize("sigma", [1, 3, 5, 16])
def test_psnr_is_that_of_the_variance(sigma: float, bits: int, rounding: float) -> None:
    error = (add_noise(grey(bits), bits, sigma, stream(0, sigma)).astype(float) - grey(bits)) * 255 / (2**bits - 1)
    psnr = 10 * math.log10(255**2 / np.mean(error**2))
    assert psnr == pytest.approx(10 * math.log10(255**2 / (sigma**2 + rounding)), abs=0.1)


def test_noise_is_normal_and_white() -> None:
    noise = (add_noise(grey(16), 16, 20, stream(0)).astype(float) - (1 << 15)) / (20 * 65535 / 255)
    assert kstest(noise.reshape(-1), "norm").pvalue > 0.01
    for axis in range(3):
        neighbours = np.mean(noise * np.roll(noise, 1, axis))
        assert abs(neighbours) < 4 / math.sqrt(noise.size)


@pytest.mark.parametrize("sigma", [2, 40])
def test_what_leaves_the_range_is_clipped(sigma: float) -> None:
    for value in (0, 255):
        noisy = add_noise(np.full((3, 100, 100), value, np.uint8), 8, sigma, stream(0, value))
        share, expected = np.mean(noisy == value), norm.cdf(0.5 / sigma)
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / noisy.size))


@pytest.mark.parametrize("bits", [1, 6, 8, 12, 16])
@pytest.mark.parametrize("shape", [(256, 13, 17), (3, 301, 499), (1, 1, 1)])
def test_one_normal_per_sample_in_order_whatever_the_block(
    shape: tuple[int, ...], bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.random.default_rng(0).integers(0, 1 << bits, shape).astype(dtype_for(bits))
    normals = stream(1).standard_normal(shape, np.float32)
    top = (1 << bits) - 1
    expected = np.clip(np.rint(samples + np.float32(10 * top / 255) * normals), 0, top)
    assert (add_noise(samples, bits, 10, stream(1)) == expected).all()
    monkeypatch.setattr(gaussian_noise, "_BLOCK", 10_007)
    assert (add_noise(samples, bits, 10, stream(1)) == expected).all()


def test_no_noise_changes_nothing() -> None:
    samples = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert (add_noise(samples, 8, 0, stream(0)) == samples).all()


@pytest.mark.parametrize("wrong", ["sigma=-1", "sigma=256", "sigma=x", ""])
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(ConditionError, match="gaussian_noise: sigma: "):
        chain(parse(f"gaussian_noise({wrong})"))
