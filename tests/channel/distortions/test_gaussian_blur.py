"""Blur against SciPy's correlation in float64 with the Gaussian's closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import correlate1d

from featlink.channel.distortions import gaussian_blur
from featlink.channel.distortions.gaussian_blur import GaussianBlur, blur
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError


def exact(samples: np.ndarray, sigma: float, window: int) -> np.ndarray:
    x = np.arange(window) - window // 2
    taps = np.exp(-(x**2) / (2 * sigma**2))
    taps /= taps.sum()
    blurred = samples.astype(np.float64)
    for axis in (1, 2):
        blurred = correlate1d(blurred, taps, axis, mode="mirror")  # SciPy's name for reflect-101
    return blurred


def assert_rounded(samples: np.ndarray, sigma: float, window: int) -> None:
    blurred = blur(samples, sigma, window)
    assert (blurred.shape, blurred.dtype) == (samples.shape, samples.dtype)
    near_tie = 1e-4 if samples.dtype == np.uint8 else 0.03
    assert np.abs(blurred - exact(samples, sigma, window)).max() <= 0.5 + near_tie


def noise(shape: tuple[int, ...], dtype: type, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("sigma", "window"), [(0.5, 5), (1.0, 21), (3.0, 21), (10.0, 5), (30.0, 101)])
@pytest.mark.parametrize("shape", [(1, 208, 272), (256, 13, 17), (3, 75, 101)])
def test_is_the_rounded_convolution(shape: tuple[int, ...], sigma: float, window: int, dtype: type) -> None:
    assert_rounded(noise(shape, dtype), sigma, window)


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 30), st.integers(1, 30)),
    st.floats(0.05, 1e6),
    st.integers(0, 50),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 99),
)
def test_windows_larger_than_the_plane_are_mirrored_repeatedly(
    shape: tuple[int, int, int], sigma: float, radius: int, dtype: type, seed: int
) -> None:
    assert_rounded(noise(shape, dtype, seed), sigma, 2 * radius + 1)


@pytest.mark.parametrize("height", [1, 20, 21, 22, 63, 150])
def test_strips_leave_no_seams(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian_blur, "_STRIP", 1)  # the fewest rows it ever takes: as many as taps
    assert_rounded(noise((2, height, 9), np.uint8), 4.0, 21)


@pytest.mark.parametrize("value", [0, 1, 127, 255, 65535])
@pytest.mark.parametrize("shape", [(1, 1, 1), (256, 1, 2), (1, 64, 48)])
def test_constant_planes_stay(shape: tuple[int, ...], value: int) -> None:
    plane = np.full(shape, value, np.uint8 if value < 256 else np.uint16)
    assert (blur(plane, 5.0, 101) == plane).all()


def test_the_narrowest_gaussian_changes_nothing_and_the_widest_is_a_box() -> None:
    plane = noise((1, 9, 9), np.uint8)
    assert (blur(plane, 5e-324, 101) == plane).all()
    impulse = np.zeros((1, 7, 7), np.uint8)
    impulse[0, 3, 3] = 250
    assert (blur(impulse, 1e308, 5)[0, 1:6, 1:6] == 10).all()


@pytest.mark.parametrize("wrong", ["sigma=0", "sigma=-1", "sigma=1, window=4", "sigma=1, window=103", "window=5"])
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(ConditionError, match=r"gaussian_blur: (sigma|window): "):
        chain(parse(f"gaussian_blur({wrong})"))


def test_the_papers_window_is_the_default() -> None:
    assert chain(parse("gaussian_blur:sigma=1")) == (GaussianBlur(sigma=1, window=21),)
