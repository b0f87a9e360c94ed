"""The two small networks of the learned reduction, on arrays: how they were trained is none of the channel's business.

Both see the quantisation step, so one pair of networks serves every rate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from featlink.channel.reduction.basis import mapped
from featlink.shared.features import Array

SEEN = 256
"""Components that the sender's network sees, the first ones."""
BLOCKS = 3
"""Residual blocks of the receiver's network."""
FINEST, COARSEST = 0.7, -3.0
"""Bounds of ln(gain)."""
STEP = 4.0
"""A step that the networks see as 0."""

Layers = Mapping[str, Array]
"""Weights (O, C, k, k), k 1 or 3, as ``<layer>.weight``, and ``<layer>.bias`` (O,)."""


def bands(components: int) -> npt.NDArray[np.int64]:
    """The band of each component: gains are given to bands, which are wider where components are small.

    Example:
        >>> bands(1024)[[0, 8, 64, 1023]].tolist()
        [0, 3, 9, 20]
    """
    found: npt.NDArray[np.int64] = np.floor(3 * np.log2(np.arange(components) / 8 + 1)).astype(np.int64).clip(max=20)
    return found


def gains(layers: Layers, components: Array, deviation: Array, step: float) -> Array:
    """What the sender multiplies components by before they are rounded.

    Where no head will look, gains are small, and the dead zone takes what is left. The receiver does not know them.

    Args:
        layers: ``gains.0``..``gains.3``.
        components: (K, H, W).
        deviation: (K,) of the components.
        step: of the quantisation.

    Returns:
        (K, H, W), each within exp(COARSEST)..exp(FINEST).
    """
    x = _with_step(components[:SEEN] / deviation[:SEEN, None, None], step)
    hidden = _relu(_convolve(layers, "gains.0", x))
    for name in ("gains.1", "gains.2"):
        hidden = hidden + _relu(_convolve(layers, name, hidden))
    found: Array = np.exp(_convolve(layers, "gains.3", hidden).clip(COARSEST, FINEST))[bands(len(components))]
    return found


def refined(layers: Layers, received: Array, deviation: Array, step: float) -> Array:
    """What the receiver takes the components for, seeing those around them.

    Args:
        layers: ``refine.in``, ``refine.a0``, ``refine.b0``, …, ``refine.out``.
        received: (K, H, W), multiples of the step.
        deviation: (K,) of the components.
        step: of the quantisation.
    """
    scale = np.sqrt(deviation**2 / 4 + step**2).astype(np.float32)[:, None, None]
    hidden = _convolve(layers, "refine.in", _with_step(received / scale, step))
    for block in range(BLOCKS):
        inner = _relu(_convolve(layers, f"refine.a{block}", _relu(hidden)))
        hidden = hidden + _convolve(layers, f"refine.b{block}", inner)
    change = _convolve(layers, "refine.out", _relu(hidden))
    return received + change * np.minimum(deviation, np.float32(step))[:, None, None]


def _with_step(x: Array, step: float) -> Array:
    return np.concatenate([x, np.full((1, *x.shape[1:]), np.log(step / STEP), np.float32)])


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _convolve(layers: Layers, name: str, x: Array) -> Array:
    """Zeros around, stride 1: (C, H, W) to (O, H, W)."""
    weight, bias = layers[f"{name}.weight"], layers[f"{name}.bias"]
    if weight.shape[-1] == 3:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        height, width = x.shape[1:]
        x = np.concatenate([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)])
        weight = weight.transpose(0, 2, 3, 1)
    return mapped(np.ascontiguousarray(weight.reshape(len(weight), -1)), x) + bias[:, None, None]
