"""SSIM against scikit-image, an independent implementation of the same definition."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from featlink.shared.frames.packing import tile
from featlink.shared.metrics.ssim import level_ssim, ssim


def skimage_ssim(x: np.ndarray, y: np.ndarray) -> float:
    return structural_similarity(x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)


def smooth(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    plane = cv2.GaussianBlur(np.random.default_rng(seed).random(shape, np.float32), (0, 0), 4.0)
    return cv2.normalize(plane, None, 0.0, 255.0, cv2.NORM_MINMAX)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(1)
    shape = (301, 1111)  # odd, and more than one strip
    plane = smooth(shape)
    noise = random.normal(0, 10, shape).astype(np.float32)
    white = np.full(shape, 255, np.float32)
    return {
        "well outside 0..255": (plane, 6 * plane - 600),
        "unrelated": (255 * random.random(shape, np.float32), 255 * random.random(shape, np.float32)),
        "noisy": (plane, plane + noise),
        "shifted": (plane, np.roll(plane, (1, 2), (0, 1))),
        "dimmed": (plane, 0.5 * plane + 60),
        "negative": (plane, 255 - plane),
        "constant": (white, white - 3),
        "constant against noise": (white, white + noise),
        "black against white": (white, 0 * white),
        "nearly flat at the top": (white - 0.01 * plane, white - 0.01 * plane[::-1]),
    }


@pytest.mark.parametrize("name", pairs())
def test_float_planes_match_skimage(name: str) -> None:
    x, y = pairs()[name]
    # float64 for the reference, as float32 cancels in skimage's own variances on flat bright planes
    assert ssim(x, y) == pytest.approx(skimage_ssim(x.astype(np.float64), y.astype(np.float64)), abs=1e-5)


@pytest.mark.parametrize("shape", [(11, 11), (11, 300), (300, 12), (27, 31), (701, 403), (23, 20_001)])
def test_uint8_planes_match_skimage_at_any_size(shape: tuple[int, int]) -> None:
    x = smooth(shape).astype(np.uint8)
    y = (smooth(shape, seed=1) // 2 + x // 2).astype(np.uint8)
    expected = skimage_ssim(x, y)
    assert ssim(x, y) == pytest.approx(expected, abs=1e-5)
    assert ssim(x.astype(np.float32), y.astype(np.float64)) == pytest.approx(expected, abs=1e-5)


def test_memory_layout_does_not_matter() -> None:
    image = np.stack([smooth((150, 600), seed) for seed in range(3)], axis=2).astype(np.uint8)
    x, y = image[:, :, 0], image[:, ::-1, 1]  # strides of an interleaved RGB image, one of them negative
    value = ssim(np.ascontiguousarray(x), np.ascontiguousarray(y))
    assert ssim(x, y) == value
    assert ssim(np.asfortranarray(x), np.asfortranarray(y)) == value


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 10), (10, 10)])
def test_plane_smaller_than_the_window_is_mirrored(shape: tuple[int, int]) -> None:
    x, y = smooth((40, 40))[: shape[0], : shape[1]], smooth((40, 40), seed=1)[: shape[0], : shape[1]]
    assert ssim(x, x) == 1
    assert ssim(x, y) == pytest.approx(skimage_ssim(np.pad(x, 5, "symmetric"), np.pad(y, 5, "symmetric")), abs=1e-5)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0, 1, 40, 255]),
)
def test_bounded_symmetric_and_exactly_one_on_itself(shape: tuple[int, int], seed: int, spread: int) -> None:
    random = np.random.default_rng(seed)
    x, y = (255 - random.integers(0, spread, (2, *shape), endpoint=True)).astype(np.uint8)
    assert ssim(x, x) == 1
    assert -1 <= ssim(x, y) <= 1
    assert ssim(x, y) == pytest.approx(ssim(y, x), abs=1e-6)


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e12])
def test_far_outside_the_range_ssim_stays_bounded(factor: float) -> None:
    x = smooth((60, 60))
    y = factor * smooth((60, 60), seed=1) - factor
    assert abs(ssim(x, y)) < 1
    assert ssim(y, y) == 1


def test_threads_do_not_change_the_value() -> None:
    x, y = smooth((700, 700)), smooth((700, 700), seed=1)
    threads = cv2.getNumThreads()
    value = ssim(x, y)
    try:
        cv2.setNumThreads(1 if threads > 1 else 2)
        assert ssim(x, y) == value
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.parametrize("channels", [256, 8, 7])
@pytest.mark.parametrize("size", [(1, 1), (13, 17), (41, 70)])
def test_level_is_judged_on_its_tiled_plane(size: tuple[int, int], channels: int) -> None:
    random = np.random.default_rng(2)
    level = random.normal(1000, 1, (channels, *size)).astype(np.float32)  # a range far from zero
    level += np.linspace(-5, 5, channels, dtype=np.float32)[:, None, None]  # each its own mean
    distorted = level + random.normal(0, 0.3, level.shape).astype(np.float32)
    low, scale = float(level.min()), 255 / float(np.ptp(level))
    planes = [(tile(side).astype(np.float64) - low) * scale for side in (level, distorted)]
    if min(planes[0].shape) < 11:
        planes = [np.pad(plane, 5, "symmetric") for plane in planes]
    assert level_ssim(level, distorted, low, scale) == pytest.approx(skimage_ssim(*planes), abs=1e-5)
    assert level_ssim(level, level, low, scale) == 1


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((20, 20)), np.zeros((20, 21))),
        (np.zeros((3, 20, 20)), np.zeros((3, 20, 20))),
        (np.zeros((0, 20)), np.zeros((0, 20))),
    ],
)
def test_refuses_wrong_shapes(x: np.ndarray, y: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one shape"):
        ssim(x, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_refuses_what_is_not_finite(bad: float) -> None:
    x = smooth((40, 40)).astype(np.float64)
    y = x.copy()
    y[0, -1] = bad
    with pytest.raises(ValueError, match="not finite"):
        ssim(x, y)


def test_level_refuses_wrong_shapes() -> None:
    level = np.zeros((256, 4, 4), np.float32)
    with pytest.raises(ValueError, match="one shape"):
        level_ssim(level, level[:, 1:], 0, 1)
