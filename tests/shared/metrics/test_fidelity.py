"""Fidelity of pyramids and images against theory and direct float64 formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from featlink.shared.frames.packing import dequantize, level_range, quantize, tile
from featlink.shared.metrics import fidelity as module
from featlink.shared.metrics.fidelity import Fidelity, Remembered, compare_images, compare_pyramids, unit
from featlink.shared.metrics.rank_correlation import spearman

SIZES = {"p2": (20, 28), "p3": (10, 14), "p4": (5, 7), "p5": (3, 4), "p6": (2, 2)}

Levels = dict[str, np.ndarray]


def pyramid(seed: int = 0) -> Levels:
    """Levels with ranges of very different width and position."""
    random = np.random.default_rng(seed)
    return {
        name: random.normal(3 * index, 10.0**-index, (256, *size)).astype(np.float32)
        for index, (name, size) in enumerate(SIZES.items())
    }


def noisy(levels: Levels, sigma: float, seed: int = 1) -> Levels:
    """Add Gaussian noise of ``sigma`` in the unit of 0..255 of each level."""
    random = np.random.default_rng(seed)
    return {
        name: (level + random.normal(0, sigma, level.shape) * np.ptp(level) / 255).astype(np.float32)
        for name, level in levels.items()
    }


@pytest.mark.parametrize(("bits", "expected"), [(8, 58.92), (4, 34.31)])
def test_psnr_of_uniform_quantisation_is_the_papers(bits: int, expected: float) -> None:
    random = np.random.default_rng(0)
    clean = {name: random.uniform(-4, 7, (256, *size)).astype(np.float32) for name, size in SIZES.items()}
    coarse = {}
    for name, level in clean.items():
        ranges = level_range(level)
        coarse[name] = dequantize(quantize(level, ranges, bits), ranges, bits)
    assert compare_pyramids(clean, coarse).psnr == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("sigma", [1, 5, 50])
def test_psnr_of_gaussian_noise_is_its_sigma(sigma: float) -> None:
    clean = pyramid()
    fidelity = compare_pyramids(clean, noisy(clean, sigma))
    expected = 20 * math.log10(255 / sigma)
    assert fidelity.psnr == pytest.approx(expected, abs=0.05)
    assert fidelity.levels["p2"].psnr == pytest.approx(expected, abs=0.05)


def test_psnr_pools_samples_ssim_and_spearman_average_levels() -> None:
    clean = pyramid()
    bad = {**clean, "p5": noisy(clean, 20)["p5"], "p6": noisy(clean, 80)["p6"]}
    fidelity = compare_pyramids(clean, bad)
    error = 0.0
    for name, level in clean.items():
        low, scale = float(level.min()), 255 / (float(level.max()) - float(level.min()))
        x, y = ((side[name].astype(np.float64) - low) * scale for side in (clean, bad))
        assert fidelity.levels[name].ssim == pytest.approx(
            structural_similarity(
                tile(x), tile(y), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            ),
            abs=1e-5,
        )
        assert fidelity.levels[name].spearman == spearman(level, bad[name])
        assert fidelity.levels[name].psnr == pytest.approx(
            math.inf if name < "p5" else peak_signal_noise_ratio(x, y, data_range=255), abs=1e-4
        )
        error += ((x - y) ** 2).sum()
    samples = sum(level.size for level in clean.values())
    assert fidelity.psnr == pytest.approx(10 * math.log10(255**2 * samples / error), abs=1e-4)
    assert fidelity.ssim == pytest.approx(np.mean([level.ssim for level in fidelity.levels.values()]))
    assert fidelity.spearman == pytest.approx(np.mean([level.spearman for level in fidelity.levels.values()]))


def test_identity_is_perfect() -> None:
    fidelity = compare_pyramids(pyramid(), pyramid())
    perfect = Fidelity(math.inf, 1.0, 1.0)
    assert fidelity == Fidelity(math.inf, 1.0, 1.0, dict.fromkeys(SIZES, perfect))


@given(scale=st.floats(1e-6, 1e6), shift=st.floats(-100, 100))
def test_unit_spans_0_to_255(scale: float, shift: float) -> None:
    level = (scale * (np.random.default_rng(0).random((2, 3, 4)) + shift)).astype(np.float32)
    low, gain = unit(level)
    if np.ptp(level) > 0:
        x = (level.astype(np.float64) - low) * gain
        assert x.min() == 0
        assert x.max() == pytest.approx(255)


def test_constant_level_counts_in_its_own_unit_and_has_no_rank() -> None:
    clean = {"p5": np.full((256, 2, 2), 7, np.float32), "p6": pyramid()["p6"]}
    same = compare_pyramids(clean, clean)
    assert (same.psnr, same.ssim, same.spearman) == (math.inf, 1, 1)
    assert same.levels["p5"].spearman is None
    bad = compare_pyramids(clean, {**clean, "p5": clean["p5"] + 2})
    assert bad.levels["p5"].psnr == pytest.approx(10 * math.log10(255**2 / 4))
    only = compare_pyramids({"p5": clean["p5"]}, {"p5": clean["p5"]})
    assert only.spearman is None


def test_flattened_level_has_lost_its_rank() -> None:
    clean = pyramid()
    flat = compare_pyramids(clean, {**clean, "p6": np.zeros_like(clean["p6"])})
    assert flat.levels["p6"].spearman == 0
    assert flat.spearman == pytest.approx(0.8)


def test_read_only_levels_are_taken() -> None:
    clean, bad = pyramid(), noisy(pyramid(), 3)
    expected = compare_pyramids(clean, bad)
    for level in (*clean.values(), *bad.values()):
        level.flags.writeable = False
    assert compare_pyramids(clean, bad) == expected


def test_a_clean_pyramid_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, other = pyramid(), pyramid(seed=5)
    looked = []
    monkeypatch.setattr(module, "unit", lambda level: looked.append(level.shape) or unit(level))
    remembered = Remembered()
    for sigma in (1, 3):
        for reference in (clean, other):
            bad = noisy(reference, sigma)
            assert compare_pyramids(reference, bad, remembered) == compare_pyramids(reference, bad)
    assert len(looked) == 2 * len(SIZES) + 4 * len(SIZES)  # remembered, and not


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_image_matches_skimage(dtype: type) -> None:
    random = np.random.default_rng(0)
    clean = random.integers(0, 256, (61, 83, 3)).astype(dtype)
    bad = np.clip(clean + random.normal(0, 20, clean.shape), 0, 255).astype(dtype)
    fidelity = compare_images(clean.transpose(2, 0, 1), bad.transpose(2, 0, 1))
    assert fidelity.psnr == pytest.approx(peak_signal_noise_ratio(clean, bad, data_range=255), abs=1e-4)
    expected = structural_similarity(
        clean,
        bad,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
    )
    assert fidelity.ssim == pytest.approx(expected, abs=1e-5)
    assert fidelity.spearman is None


def test_image_of_mixed_dtypes_and_identity() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 20, 30)).astype(np.uint8)
    assert compare_images(image, image.astype(np.float32)) == Fidelity(math.inf, 1.0)


def test_large_images_do_not_overflow() -> None:
    black = np.zeros((3, 2000, 2000), np.uint8)
    assert compare_images(black, ~black).psnr == pytest.approx(0, abs=1e-9)


def test_refuses_other_levels_and_shapes() -> None:
    clean = pyramid()
    with pytest.raises(ValueError, match="same levels"):
        compare_pyramids(clean, {name: level for name, level in clean.items() if name != "p6"})
    with pytest.raises(ValueError, match="same levels"):
        compare_pyramids({}, {})
    with pytest.raises(ValueError, match="one shape"):
        compare_pyramids(clean, {**clean, "p6": clean["p5"]})
    with pytest.raises(ValueError, match="dtype"):
        compare_pyramids(clean, {**clean, "p6": clean["p6"].astype(np.float64)})
    with pytest.raises(ValueError, match="3, H, W"):
        compare_images(np.zeros((20, 20)), np.zeros((20, 20)))
    with pytest.raises(ValueError, match="one shape"):
        compare_images(np.zeros((3, 20, 20)), np.zeros((3, 20, 21)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_refuses_what_is_not_finite(side: int, value: float) -> None:
    pair = (pyramid(), pyramid())
    pair[side]["p3"][100, 5, 5] = value
    with pytest.raises(ValueError, match="finite"):
        compare_pyramids(*pair)
    image = np.zeros((3, 20, 20), np.float32)
    images = (image, image.copy())
    images[side][1, 5, 5] = value
    with pytest.raises(ValueError, match="finite"):
        compare_images(*images)
