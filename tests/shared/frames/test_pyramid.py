"""p6 against torchvision's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from featlink.shared.frames.pyramid import Pyramid, Sizes, p6_from_p5


@pytest.mark.parametrize("shape", [(256, 25, 34), (3, 1, 1), (2, 2, 5)])
def test_p6_is_torchvisions(shape: tuple[int, int, int]) -> None:
    p5 = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    levels, _ = LastLevelMaxPool()([torch.from_numpy(p5)[None]], [], [])
    p6 = p6_from_p5(p5)
    np.testing.assert_array_equal(p6, levels[-1][0].numpy())
    assert p6.flags.c_contiguous


def test_a_pyramid_knows_its_bytes() -> None:
    levels = {"p5": np.zeros((4, 2, 3), np.float32), "p6": np.zeros((4, 1, 2), np.float32)}
    assert Pyramid(levels, Sizes((1, 1), (1, 1), (32, 32))).nbytes == 4 * (24 + 8)
