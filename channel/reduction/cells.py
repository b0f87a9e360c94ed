"""Levels over common positions: blocks of samples become channels, so that one transform sees all levels at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from featlink.shared.errors import FrameError
from featlink.shared.features import Array

SIDES = {"p2": 4, "p3": 2, "p4": 1, "p5": 0}
"""Samples along a side of a cell of 16×16 pixels, by level; 0: four cells share one sample."""


def gather(x: Array, side: int) -> Array:
    """Blocks of side×side samples as channels: (C, H, W) to (C·side², H/side, W/side).

    Example:
        >>> gather(np.arange(4, dtype=np.float32).reshape(1, 2, 2), 2).reshape(-1).tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    c, h, w = x.shape
    blocks = x.reshape(c, h // side, side, w // side, side).transpose(0, 2, 4, 1, 3)
    return blocks.reshape(c * side**2, h // side, w // side)


def scatter(x: Array, side: int) -> Array:
    """Undo :func:`gather`."""
    c, h, w = x.shape
    blocks = x.reshape(c // side**2, side, side, h, w).transpose(0, 3, 1, 4, 2)
    return blocks.reshape(c // side**2, h * side, w * side)


def join(levels: Mapping[str, Array]) -> Array:
    """All levels over cells of 16×16 pixels.

    Args:
        levels: p2..p5, (C, H, W) each. Of the padded input's sizes, which are multiples of 32, all blocks are whole.

    Returns:
        (D, H, W) at p4's positions, D = 16·C2 + 4·C3 + C4 + C5. The sum of squares is that of the levels: each sample
        of p5 is repeated four times and halved.

    Raises:
        FrameError: the sizes are not 8, 4, 2 and 1 times p5's.
    """
    height, width = levels["p5"].shape[1:]
    for (name, level), factor in zip(((name, levels[name]) for name in SIDES), (8, 4, 2, 1), strict=True):
        if level.shape[1:] != (factor * height, factor * width):
            raise FrameError(f"{name} is {level.shape[1:]}, which is not {factor} times p5's {(height, width)}")
    parts = [gather(levels[name], side) for name, side in SIDES.items() if side]
    return np.concatenate([*parts, levels["p5"].repeat(2, 1).repeat(2, 2) / 2])


def split(x: Array, channels: Mapping[str, int]) -> dict[str, Array]:
    """Undo :func:`join`; what differs between the four copies of a sample of p5 is averaged.

    Args:
        x: (D, H, W), H and W even.
        channels: of each level.
    """
    levels: dict[str, Array] = {}
    at = 0
    for name, side in SIDES.items():
        width = channels[name] * max(1, side**2)
        part, at = x[at : at + width], at + width
        if side:
            levels[name] = scatter(part, side)
        else:
            c, h, w = part.shape
            levels[name] = part.reshape(c, h // 2, 2, w // 2, 2).sum((2, 4)) / 2
    return levels
