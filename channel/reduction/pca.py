"""The PCA of all levels together: training-free, fitted once to a network.

Levels stand over common positions (cells), so that one transform sees all of them at once. Its maps are a file that
both ends of the link have, as they have the network.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from threadpoolctl import ThreadpoolController

from featlink.channel.reduction.base import Chosen, PredictingReduction, in_steps
from featlink.shared import fitted
from featlink.shared.conditions.registry import register
from featlink.shared.errors import ConditionError, FrameError, ModelError
from featlink.shared.features import Array
from featlink.shared.fpn import FPN
from featlink.shared.frames.wire import LATENT

FORMAT = "featlink-pca-1"
"""Of the file; another is refused."""

CELL = 16
"""Pixels along a side of a cell."""
SIDES = {name: CELL // FPN[name].stride for name in FPN.required}
"""Samples along a side of a cell, by level: 4 of p2, 2, 1; 0 of p5, of which four cells share one sample."""
COARSEST = FPN.required[-1]


@register
class Pca(PredictingReduction):
    """Send the first components of a PCA of all levels at p5's positions, in a metric of what the heads read.

    The basis is made by ``featlink fit pca``; that of the bundled detector is bundled. p6 is not sent.

    Without ``step``, components are mapped to samples as levels are. With it, they are rounded to multiples of it and
    clipped at what the samples' bits hold, for an entropy coder behind it: errors of all components weigh the same, so
    one step for all is reverse water-filling.
    """

    strength: ClassVar[str | None] = "step"

    type: Literal["pca"] = "pca"
    components: int = Field(default=128, ge=1, le=1024, description="how many components cross the link")
    step: float | None = Field(
        default=None, gt=0, le=1000, description="quantisation step, with a dead zone; default: the range decides"
    )

    @model_validator(mode="after")
    def _differences_have_steps(self) -> Self:
        if self.gop != "intra" and self.step is None:
            raise ValueError("gop=low_delay needs a step: differences have no range of their own")
        return self

    def reduce(self, levels: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """See the base class."""
        basis = _basis(weights)
        if self.components > (most := len(basis.deviation)):
            raise ConditionError(f"pca: the basis for weights {weights} has {most} components, not {self.components}")
        return {LATENT: basis.analyse(levels, self.components)}

    def restore(self, planes: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """See the base class."""
        return _basis(weights).synthesise(planes[LATENT])

    def _unseen(self) -> set[str]:
        return super()._unseen() | {"step"}

    def multiply_adds(self, shapes: Mapping[str, tuple[int, int, int]], weights: str) -> tuple[float, float] | None:
        """Those of the matrix products; both ways cost the same."""
        one_way = float(_basis(weights).multiply_adds(shapes, self.components))
        return one_way, one_way

    def chosen(self, planes: Mapping[str, Array], bits: int) -> Chosen | None:
        """See the base class: multiples of the step."""
        return None if self.step is None else in_steps(planes, self.step, bits)


def _basis(weights: str) -> Basis:
    basis = fitted.load("pca", weights, read_basis)
    if basis.weights != weights:
        raise ModelError(f"pca is fitted to weights {basis.weights}, not {weights}: run `featlink fit pca`")
    return basis


@dataclass(frozen=True, eq=False)
class Basis:
    """Channels of each level to those that the heads read, then cells of all levels to components, then 2×2 cells.

    Errors of the components weigh the same, so one quantisation step for all is reverse water-filling, and the first
    components are the most important.

    Attributes:
        forward: level to (C', C): an orthonormal metric of errors, uncorrelated channels, the largest first.
        inverse: level to (C, C').
        mean: level to (C',), of the mapped channels.
        worth: level to how much an error of it weighs against one of p2.
        cell: (D, K1), orthonormal columns: from a cell of 16×16 pixels, see ``join``.
        group: (4·K1, K2), orthonormal columns: from 2×2 such cells, at p5's positions.
        deviation: (K2,) of the components over the pictures that it was fitted to.
        weights: identity of the network's weights.
        architecture: of the network.
    """

    forward: Mapping[str, Array]
    inverse: Mapping[str, Array]
    mean: Mapping[str, Array]
    worth: Mapping[str, float]
    cell: Array
    group: Array
    deviation: Array
    weights: str
    architecture: str

    def analyse(self, levels: Mapping[str, Array], components: int) -> Array:
        """Levels (C, H, W) to components (K, h, w) at the coarsest one's positions.

        Raises:
            FrameError: a level is missing, or they are not of sizes that belong together.
        """
        if missing := [name for name in SIDES if name not in levels]:
            raise FrameError(f"the features have no {missing[0]}, which the reduction needs")
        cells = join({name: self.centred(name, levels[name]) for name in SIDES})
        return mapped(self.group[:, :components].T, gather(mapped(self.cell.T, cells), 2))

    def synthesise(self, components: Array) -> dict[str, Array]:
        """Components (K, h, w) to levels (C, H, W)."""
        cells = mapped(self.cell, scatter(mapped(self.group[:, : len(components)], components), 2))
        levels = split(cells, {name: len(self.mean[name]) for name in SIDES})
        return {
            name: mapped(self.inverse[name], level / self.worth[name] + self.mean[name][:, None, None])
            for name, level in levels.items()
        }

    def multiply_adds(self, shapes: Mapping[str, tuple[int, int, int]], components: int) -> int:
        """Of the matrix products of :meth:`analyse`, and as many of :meth:`synthesise`.

        Args:
            shapes: (C, H, W) of the levels.
            components: K.
        """
        height, width = shapes[COARSEST][1:]
        channels = sum(self.forward[name].size * shapes[name][1] * shapes[name][2] for name in SIDES)
        return int(channels + self.cell.size * 4 * height * width + len(self.group) * components * height * width)

    def centred(self, name: str, level: Array) -> Array:
        """One level's mapped channels around zero, by the level's worth."""
        return (mapped(self.forward[name], level) - self.mean[name][:, None, None]) * np.float32(self.worth[name])


def encode_basis(basis: Basis) -> bytes:
    """The file: safetensors; the large maps in half precision."""
    arrays = arrays_of(basis)
    arrays |= {name: arrays[name].astype(np.float16) for name in ("cell", "group")}
    return fitted.encode(FORMAT, arrays, basis.weights, basis.architecture)


def read_basis(path: Path) -> Basis:
    """Read what :func:`encode_basis` made.

    Raises:
        ModelError: it cannot be read, is damaged, or not such a file.
    """
    return basis_of(*fitted.read(path, FORMAT, "featlink fit pca"))


def arrays_of(basis: Basis) -> dict[str, np.ndarray]:
    """All of it that is numbers, by name."""
    parts = {f"{part}.{name}": getattr(basis, part)[name] for part in ("forward", "inverse", "mean") for name in SIDES}
    worth = np.array([basis.worth[name] for name in SIDES], np.float32)
    return parts | {"cell": basis.cell, "group": basis.group, "deviation": basis.deviation, "worth": worth}


def basis_of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, str]) -> Basis:
    """Undo :func:`arrays_of`."""
    parts = {part: {name: arrays[f"{part}.{name}"] for name in SIDES} for part in ("forward", "inverse", "mean")}
    return Basis(
        **parts,
        worth=dict(zip(SIDES, arrays["worth"].tolist(), strict=True)),
        cell=arrays["cell"].astype(np.float32),
        group=arrays["group"].astype(np.float32),
        deviation=arrays["deviation"],
        weights=facts["weights"],
        architecture=facts["architecture"],
    )


def mapped(matrix: Array, x: Array) -> Array:
    """A matrix times (C, H, W).

    On one thread: BLAS rounds by how it shares a product out, and no result may depend on the number of cores.
    """
    with _alone, _blas().limit(limits=1, user_api="blas"):
        product: Array = (matrix @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])
    return product


_alone = threading.Lock()  # the limit is the process's, and ends with the first that leaves it


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


# Levels over common positions.


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
    height, width = levels[COARSEST].shape[1:]
    for name in SIDES:
        size, factor = levels[name].shape[1:], FPN[COARSEST].stride // FPN[name].stride
        if size != (factor * height, factor * width):
            raise FrameError(f"{name} is {size}, which is not {factor} times {COARSEST}'s {(height, width)}")
    parts = [gather(levels[name], side) for name, side in SIDES.items() if side]
    return np.concatenate([*parts, levels[COARSEST].repeat(2, 1).repeat(2, 2) / 2])


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
