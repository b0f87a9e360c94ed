"""Resizing against PyTorch's bicubic interpolation (the same kernel, a = -0.75) in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from featlink.channel.distortions.resize import bicubic, down_and_up
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError
from featlink.shared.frames.bitstream import dtype_for


def assert_interpolated(samples: np.ndarray, resized: np.ndarray, bits: int) -> None:
    exact = interpolate(
        torch.from_numpy(samples.astype(np.float64))[None],
        size=resized.shape[1:],
        mode="bicubic",
        align_corners=False,
    )[0].numpy()
    assert np.abs(resized - np.clip(exact, 0, 2**bits - 1)).max() <= 0.75


@pytest.mark.parametrize("bits", [3, 8, 10, 16])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 208, 272), (256, 13, 17), (256, 5, 1), (3, 75, 101)])
def test_both_steps_are_bicubic(shape: tuple[int, int, int], factor: int, bits: int) -> None:
    samples = np.random.default_rng(0).integers(0, 1 << bits, shape).astype(dtype_for(bits))
    _, height, width = shape
    small = bicubic(samples, bits, math.ceil(height / factor), math.ceil(width / factor))
    assert_interpolated(samples, small, bits)
    resized = down_and_up(samples, bits, factor)
    assert_interpolated(small, resized, bits)
    assert resized.shape == shape


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_overshoot_is_clipped_to_the_depth(bits: int) -> None:
    top = (1 << bits) - 1
    step = np.zeros((1, 64, 64), dtype_for(bits))
    step[:, :, 32:] = top
    resized = down_and_up(step, bits, 4)
    assert (resized.min(), resized.max()) == (0, top)
    assert (np.diff(resized[0, 30, 26:38].astype(int)) >= 0).all()  # a wrapped overshoot would fall back


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1), (256, 1, 2), (1, 64, 48)])
def test_constant_planes_stay(shape: tuple[int, ...], factor: int) -> None:
    for value in (0, 1, 200, 255):
        assert (down_and_up(np.full(shape, value, np.uint8), 8, factor) == value).all()


@pytest.mark.parametrize("wrong", ["factor=3", "factor=1", "factor=0", "factor=2.5", ""])
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(ConditionError, match="resize: factor: "):
        chain(parse(f"resize({wrong})"))
