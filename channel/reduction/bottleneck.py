"""The learned reduction: a PCA between a network that weights components and one that refines what was received.

The networks are small, and run on arrays: the channel needs no code of their training. Both see the
quantisation step, so one pair of networks serves every rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.reduction.base import Chosen, PredictingReduction, in_steps
from featlink.channel.reduction.pca import Basis, arrays_of, basis_of, mapped
from featlink.shared import fitted
from featlink.shared.conditions.registry import register
from featlink.shared.errors import ModelError
from featlink.shared.features import Array
from featlink.shared.frames.wire import LATENT

FORMAT = "featlink-bottleneck-1"
"""Of the file; another is refused."""

SEEN = 256
"""Components that the sender's network sees, the first ones."""
BLOCKS = 3
"""Residual blocks of the receiver's network."""
LEAST_GAIN, MOST_GAIN = -3.0, 0.7
"""Bounds of ln(gain)."""
STEP = 4.0
"""A step that the networks see as 0."""

Layers = Mapping[str, Array]
"""Weights (O, C, k, k), k 1 or 3, as ``<layer>.weight``, and ``<layer>.bias`` (O,)."""

_LARGE = ("cell", "group")
_DROP = "drop"
"""Is among the arrays, so that the digest, by which a fit is known, is of it too."""
_LAYERS = ("gains.", "refine.")
"""How names of the sender's network's layers begin, and of the receiver's."""


@register
class Bottleneck(PredictingReduction):
    """Send the components that matter to the heads, as a network learned them, for an entropy coder behind it.

    One latent of all levels at p5's positions: the sender scales the components of the ``pca`` step by how much the
    heads will miss them, and rounds them to multiples of ``step``; the receiver's network refines what came. Both were
    trained by ``featlink fit bottleneck`` on the heads' answers, at all rates together, once for each split, with
    ``--drop`` also for stripes that are lost. Those of the bundled detector are bundled. What derives from another
    level, as p6 does, is not sent.
    """

    strength: ClassVar[str | None] = "step"

    type: Literal["bottleneck"] = "bottleneck"
    step: float = Field(
        default=4.0,
        gt=0,
        le=100,
        description="quantisation step, with a dead zone; in a predicted stream that of key frames, else twice it",
    )

    def reduce(self, levels: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """See the base class."""
        learned = _learned(weights)
        basis = learned.basis
        components = basis.analyse(levels, len(basis.deviation))
        return {LATENT: components * gains(learned.layers, components, basis.deviation, self.step)}

    def restore(self, planes: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """See the base class."""
        learned = _learned(weights)
        basis = learned.basis
        return basis.synthesise(refined(learned.layers, planes[LATENT], basis.deviation, self.step))

    def multiply_adds(self, shapes: Mapping[str, tuple[int, int, int]], weights: str) -> tuple[float, float]:
        """Those of the matrix products, of the networks, which work at p5's positions, and of prediction."""
        learned = _learned(weights)
        count = len(learned.basis.deviation)
        products = learned.basis.multiply_adds(shapes, count)
        height, width = learned.basis.grid.positions(shapes)
        predicts = self.prediction_period > 1
        predicting = learned.basis.prediction_multiply_adds(shapes, count) if predicts else (0, 0)
        sender, receiver = (
            height * width * sum(x.size for name, x in learned.layers.items() if name.startswith(part) and x.ndim == 4)
            for part in _LAYERS
        )
        return float(products + sender + predicting[0]), float(products + receiver + predicting[1])

    def chosen(self, planes: Mapping[str, Array], bits: int) -> Chosen:
        """See the base class: multiples of the step."""
        return in_steps(planes, self.step, bits)

    def predicted_in(self, weights: str) -> tuple[Basis, float]:
        """See the base class."""
        return _learned(weights).basis, self.step


def _learned(weights: str) -> Learned:
    learned = fitted.load("bottleneck", weights, read_learned)
    if learned.basis.weights != weights:
        raise ModelError(
            f"bottleneck is fitted to weights {learned.basis.weights}, not {weights}: run `featlink fit bottleneck`"
        )
    return learned


@dataclass(frozen=True, eq=False)
class Learned:
    """A linear transform and what the networks add to it.

    Attributes:
        basis: of the ``pca`` step, its large maps rounded to 8 bits.
        layers: of both networks.
        drop: share of stripes, at most, that were dropped in training, 0..1.
    """

    basis: Basis
    layers: Layers
    drop: float = 0


def encode_learned(learned: Learned) -> bytes:
    """The file: the basis' large maps in 8 bits, networks in half precision."""
    arrays = arrays_of(learned.basis)
    for name in _LARGE:
        arrays[name], arrays[f"{name}.scale"] = _rounded(arrays[name])
    arrays |= {name: layer.astype(np.float16) for name, layer in learned.layers.items()}
    if learned.drop:
        arrays[_DROP] = np.array([learned.drop])
    return fitted.encode(FORMAT, arrays, learned.basis.weights, learned.basis.architecture)


def read_learned(path: Path) -> Learned:
    """Read what :func:`encode_learned` made.

    Raises:
        ModelError: it cannot be read, is damaged, or not such a file.
    """
    arrays, facts = fitted.read(path, FORMAT, "featlink fit bottleneck")
    for name in _LARGE:
        arrays[name] = arrays[name] * arrays[f"{name}.scale"]
    layers = {name: array.astype(np.float32) for name, array in arrays.items() if name.startswith(_LAYERS)}
    return Learned(basis_of(arrays, facts), layers, float(arrays[_DROP][0]) if _DROP in arrays else 0)


def as_stored(basis: Basis) -> Basis:
    """The basis with its large maps as the file will have them."""
    arrays: Mapping[str, np.ndarray] = arrays_of(basis)
    kept = {name: np.multiply(*_rounded(arrays[name])) for name in _LARGE}
    return basis_of({**arrays, **kept}, {"weights": basis.weights, "architecture": basis.architecture})


def _rounded(matrix: Array) -> tuple[np.ndarray, Array]:
    """8 bits for each value, and a scale for each column."""
    scale = (np.abs(matrix).max(0).clip(1e-12) / 127).astype(np.float32)
    return np.rint(matrix / scale).astype(np.int8), scale


# The networks.


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
        (K, H, W), each within exp(LEAST_GAIN)..exp(MOST_GAIN).
    """
    x = _with_step(components[:SEEN] / deviation[:SEEN, None, None], step)
    hidden = _relu(_convolve(layers, "gains.0", x))
    for name in ("gains.1", "gains.2"):
        hidden = hidden + _relu(_convolve(layers, name, hidden))
    found: Array = np.exp(_convolve(layers, "gains.3", hidden).clip(LEAST_GAIN, MOST_GAIN))[bands(len(components))]
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
