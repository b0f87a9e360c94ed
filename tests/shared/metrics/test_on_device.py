"""Fidelity in torch equals fidelity in numpy: on the CPU always, on a GPU where there is one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from featlink.shared.features import Array
from featlink.shared.frames.packing import dequantize, level_range, quantize
from featlink.shared.metrics import on_device
from featlink.shared.metrics.fidelity import compare_pyramids
from featlink.shared.metrics.on_device import DeviceFidelity
from featlink.shared.models.device import Gateway

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
RNG = np.random.default_rng(0)


def _smooth(height: int, width: int) -> Array:
    noise = RNG.normal(size=(256, height, width)).astype(np.float32)
    return np.cumsum(noise, axis=2, dtype=np.float32) + RNG.normal(scale=9, size=(256, 1, 1)).astype(np.float32)


CLEAN = {name: _smooth(*size) for name, size in {"p2": (34, 50), "p4": (9, 13), "p6": (1, 1)}.items()}


def _noisy(level: Array) -> Array:
    return level + RNG.normal(scale=0.5, size=level.shape).astype(np.float32)


def _coarse(level: Array) -> Array:
    ranges = level_range(level)
    return dequantize(quantize(level, ranges, 3), ranges, 3)


@pytest.fixture(params=DEVICES)
def compare(request: pytest.FixtureRequest) -> DeviceFidelity:
    return DeviceFidelity(Gateway(torch.device(request.param)))


@pytest.mark.parametrize("strip", [1 << 24, 1 << 13])
@pytest.mark.parametrize("distort", [_noisy, _coarse, np.zeros_like, lambda level: level])
def test_the_same_figures(
    compare: DeviceFidelity, distort: object, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "_MOST_PIXELS", strip)
    distorted = {name: distort(level) for name, level in CLEAN.items()}  # type: ignore[operator]
    found, expected = compare(CLEAN, distorted), compare_pyramids(CLEAN, distorted)
    for ours, theirs in [(found, expected), *((found.levels[name], expected.levels[name]) for name in CLEAN)]:
        assert ours.psnr == theirs.psnr or ours.psnr == pytest.approx(theirs.psnr, abs=1e-3)
        assert ours.ssim == pytest.approx(theirs.ssim, abs=1e-5)
        assert ours.spearman == theirs.spearman
    assert (found.ssim == 1) == (distorted["p2"] is CLEAN["p2"])


def test_a_constant_level(compare: DeviceFidelity) -> None:
    clean, bad = {"p5": np.full((256, 2, 2), 3, np.float32)}, {"p5": np.full((256, 2, 2), 4, np.float32)}
    found, expected = compare(clean, bad), compare_pyramids(clean, bad)
    assert found.psnr == pytest.approx(expected.psnr)
    assert found.spearman is expected.spearman is None
    assert compare(clean, clean).psnr == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_not_finite_is_refused(compare: DeviceFidelity, value: float, side: int) -> None:
    sides = [{"p2": CLEAN["p2"].copy()}, {"p2": CLEAN["p2"].copy()}]
    sides[side]["p2"][3, 4, 5] = value
    with pytest.raises(ValueError, match="finite"):
        compare(*sides)


def test_other_shapes_are_refused(compare: DeviceFidelity) -> None:
    with pytest.raises(ValueError, match="same levels"):
        compare({"p2": CLEAN["p2"]}, {"p2": CLEAN["p4"]})
