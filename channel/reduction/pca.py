"""The PCA of all tensors of a split together: training-free, fitted once to a network.

Tensors, here called levels, stand over common positions (cells), so that one transform sees all of them at once. Its
maps are a file that both ends of the link have, as they have the network.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from threadpoolctl import ThreadpoolController

from featlink.channel.reduction.base import Chosen, PredictingReduction, in_steps
from featlink.shared import fitted
from featlink.shared.conditions.registry import register
from featlink.shared.errors import ConditionError, FrameError, ModelError
from featlink.shared.features import Array, FeatureSpec
from featlink.shared.fpn import FPN
from featlink.shared.frames.wire import LATENT

FORMAT = "featlink-pca-1"
"""Of the file; another is refused."""

_SEARCHED = 8
"""Channels of the finest level by which motion is found."""

F = TypeVar("F", bound=np.floating)

CELL = 16
"""Pixels along a side of a cell at most; 2×2 cells are one position of the components."""


@register
class Pca(PredictingReduction):
    """Send the first components of a PCA of all levels at p5's positions, in a metric of what the heads read.

    The basis is made by ``featlink fit pca``, one for each split; that of the bundled detector is bundled. What derives
    from another level, as p6 does, is not sent.

    Without ``step``, components are mapped to samples as levels are. With it, they are rounded to multiples of it and
    clipped at what the samples' bits hold, for an entropy coder behind it: errors of all components weigh the same, so
    one step for all is reverse water-filling. In a predicted stream it is that of key frames;
    residuals have twice it.
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
        """Those of the matrix products, both ways the same, and of prediction."""
        basis, predicts = _basis(weights), self.prediction_period > 1
        sender, receiver = basis.prediction_multiply_adds(shapes, self.components) if predicts else (0, 0)
        one_way = float(basis.multiply_adds(shapes, self.components))
        return one_way + sender, one_way + receiver

    def chosen(self, planes: Mapping[str, Array], bits: int) -> Chosen | None:
        """See the base class: multiples of the step."""
        return None if self.step is None else in_steps(planes, self.step, bits)

    def predicted_in(self, weights: str) -> tuple[Basis, float]:
        """See the base class."""
        return _basis(weights), self.step or 1.0


def _basis(weights: str) -> Basis:
    basis = fitted.load("pca", weights, read_basis)
    if basis.weights != weights:
        raise ModelError(f"pca is fitted to weights {basis.weights}, not {weights}: run `featlink fit pca`")
    return basis


@dataclass(frozen=True)
class Grid:
    """The cells that the levels stand over.

    Attributes:
        cell: pixels along a side.
        strides: of each level, the finest first; each divides ``cell``, or is a multiple of it.
    """

    cell: int
    strides: Mapping[str, int]

    @classmethod
    def of(cls, spec: FeatureSpec) -> Grid:
        """That of a split's levels, without those that are derived.

        Raises:
            ModelError: they have none.

        Example:
            >>> Grid.of(FPN).cell, Grid.of(FPN).side("p2"), Grid.of(FPN).repeats("p5")
            (16, 4, 2)
        """
        strides = {
            name: spec[name].stride for name in sorted(spec.required, key=lambda name: (spec[name].stride, name))
        }
        cell = math.gcd(spec.divisor, 2 * CELL) // 2
        if not cell or any(cell % stride and stride % cell for stride in strides.values()):
            wanted = ", ".join(f"{name} {stride}" for name, stride in strides.items())
            raise ModelError(
                f"has no meaning here, as it joins tensors over common cells: inputs are multiples of {spec.divisor} "
                f"pixels, and strides are {wanted}"
            )
        return cls(cell, strides)

    def side(self, name: str) -> int:
        """Samples along a side of a cell: of an FPN 4 of p2, 2, 1; 1 where cells share a sample."""
        return max(1, self.cell // self.strides[name])

    def repeats(self, name: str) -> int:
        """Cells along a side of a sample: of an FPN 2 of p5; 1 where it has one or several samples of its own."""
        return max(1, self.strides[name] // self.cell)

    def positions(self, shapes: Mapping[str, tuple[int, int, int]]) -> tuple[int, int]:
        """Height and width of components, of levels of these shapes (C, H, W)."""
        finest, stride = next(iter(self.strides.items()))
        height, width = (-(-side * stride // (2 * self.cell)) for side in shapes[finest][1:])
        return height, width

    def join(self, levels: Mapping[str, npt.NDArray[F]]) -> npt.NDArray[F]:
        """All levels over cells.

        Args:
            levels: (C, H, W) each, of an input whose sides are multiples of two cells.

        Returns:
            (D, H, W), D = Σ C · side². The sum of squares is that of the levels: a sample that r×r cells share is
            divided by r, but at the right and lower border, where some of these cells may lie outside.

        Raises:
            FrameError: the sizes do not fit each other.
        """
        if missing := [name for name in self.strides if name not in levels]:
            raise FrameError(f"the features have no {missing[0]}, which the reduction needs")
        height, width = (2 * side for side in self.positions({name: levels[name].shape for name in self.strides}))
        parts: list[npt.NDArray[F]] = []
        for name, stride in self.strides.items():
            level, shape = levels[name], tuple(-(-side * self.cell // stride) for side in (height, width))
            if level.shape[1:] != shape:
                raise FrameError(f"{name} is {level.shape[1:]}, which is not the {shape} that the others' sizes give")
            if (repeats := self.repeats(name)) > 1:
                shared = level.repeat(repeats, 1).repeat(repeats, 2)[:, :height, :width] / np.float32(repeats)
                parts.append(shared.astype(level.dtype, copy=False))
            else:
                parts.append(gather(level, self.side(name)))
        return np.concatenate(parts)

    def split(self, x: npt.NDArray[F], channels: Mapping[str, int]) -> dict[str, npt.NDArray[F]]:
        """Undo :meth:`join`; what differs between cells that share a sample is averaged.

        Args:
            x: (D, H, W), H and W even.
            channels: of each level.
        """
        levels: dict[str, npt.NDArray[F]] = {}
        at = 0
        for name in self.strides:
            side, repeats = self.side(name), self.repeats(name)
            part, at = x[at : at + channels[name] * side**2], at + channels[name] * side**2
            if repeats > 1:
                edges = tuple((0, -length % repeats) for length in x.shape[1:])
                whole = np.pad(part, ((0, 0), *edges), mode="edge") if any(map(any, edges)) else part
                c, h, w = whole.shape
                levels[name] = whole.reshape(c, h // repeats, repeats, w // repeats, repeats).sum((2, 4)) / repeats
            else:
                levels[name] = scatter(part, side)
        return levels


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
        cell: (D, K1), orthonormal columns: from a cell, see :meth:`Grid.join`.
        group: (4·K1, K2), orthonormal columns: from 2×2 cells, of an FPN at p5's positions.
        deviation: (K2,) of the components over the pictures that it was fitted to.
        weights: identity of the network's weights and its split, :func:`featlink.shared.fitted.key`.
        architecture: of the network.
        grid: of the cells.
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
    grid: Grid = field(default_factory=lambda: Grid.of(FPN))

    def analyse(self, levels: Mapping[str, Array], components: int) -> Array:
        """Levels (C, H, W) to components (K, h, w).

        Raises:
            FrameError: a level is missing, or they are not of sizes that belong together.
        """
        cells = self.grid.join({name: self.centred(name, x) for name, x in levels.items() if name in self.mean})
        return mapped(self.group[:, :components].T, gather(mapped(self.cell.T, cells), 2))

    def synthesise(self, components: Array) -> dict[str, Array]:
        """Components (K, h, w) to levels (C, H, W)."""
        cells = mapped(self.cell, scatter(mapped(self.group[:, : len(components)], components), 2))
        levels = self.grid.split(cells, {name: len(mean) for name, mean in self.mean.items()})
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
        height, width = self.grid.positions(shapes)
        channels = sum(matrix.size * shapes[name][1] * shapes[name][2] for name, matrix in self.forward.items())
        return int(channels + self.cell.size * 4 * height * width + len(self.group) * components * height * width)

    @property
    def searched(self) -> int:
        """Rows of a cell by which motion is found: the first channels of the finest level."""
        finest = next(iter(self.grid.strides))
        return min(_SEARCHED, len(self.mean[finest])) * self.grid.side(finest) ** 2

    def prediction_multiply_adds(self, shapes: Mapping[str, tuple[int, int, int]], components: int) -> tuple[int, int]:
        """What prediction adds at the sender and at the receiver if all places move; if none does, nothing."""
        height, width = self.grid.positions(shapes)
        group = len(self.group) * components
        move = 2 * (group + 4 * self.cell.size)
        search = 2 * (group + 4 * self.searched * self.cell.shape[1])
        return height * width * (move + search), height * width * move

    def centred(self, name: str, level: Array) -> Array:
        """One level's mapped channels around zero, by the level's worth."""
        return (mapped(self.forward[name], level) - self.mean[name][:, None, None]) * np.float32(self.worth[name])


_BY_LEVEL = ("forward", "inverse", "mean")


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
    grid = basis.grid
    parts = {f"{part}.{name}": getattr(basis, part)[name] for part in _BY_LEVEL for name in grid.strides}
    worth = np.array([basis.worth[name] for name in grid.strides], np.float32)
    parts |= {"cell": basis.cell, "group": basis.group, "deviation": basis.deviation, "worth": worth}
    if grid != Grid.of(FPN):
        parts |= {f"stride.{name}": np.array([stride]) for name, stride in grid.strides.items()}
        parts["cell.side"] = np.array([grid.cell])
    return parts


def basis_of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, str]) -> Basis:
    """Undo :func:`arrays_of`."""
    grid = Grid.of(FPN)
    if "cell.side" in arrays:
        strides = {name[7:]: array.item() for name, array in arrays.items() if name.startswith("stride.")}
        order = sorted(strides, key=lambda name: (strides[name], name))
        grid = Grid(arrays["cell.side"].item(), {name: strides[name] for name in order})
    parts = {part: {name: arrays[f"{part}.{name}"] for name in grid.strides} for part in _BY_LEVEL}
    return Basis(
        **parts,
        worth=dict(zip(grid.strides, arrays["worth"].tolist(), strict=True)),
        cell=arrays["cell"].astype(np.float32),
        group=arrays["group"].astype(np.float32),
        deviation=arrays["deviation"],
        weights=facts["weights"],
        architecture=facts["architecture"],
        grid=grid,
    )


def mapped(matrix: npt.NDArray[F], x: npt.NDArray[F]) -> npt.NDArray[F]:
    """A matrix times (C, H, W).

    On one thread: BLAS rounds by how it shares a product out, and no result may depend on the number of cores.
    """
    with _alone, _blas().limit(limits=1, user_api="blas"):
        product: npt.NDArray[F] = (matrix @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])
    return product


_alone = threading.Lock()  # the limit is the process's, and ends with the first that leaves it


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


# Blocks of samples as channels, and back.


def gather(x: npt.NDArray[F], side: int) -> npt.NDArray[F]:
    """Blocks of side×side samples as channels: (C, H, W) to (C·side², H/side, W/side).

    Example:
        >>> gather(np.arange(4, dtype=np.float32).reshape(1, 2, 2), 2).reshape(-1).tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    c, h, w = x.shape
    blocks = x.reshape(c, h // side, side, w // side, side).transpose(0, 2, 4, 1, 3)
    return blocks.reshape(c * side**2, h // side, w // side)


def scatter(x: npt.NDArray[F], side: int) -> npt.NDArray[F]:
    """Undo :func:`gather`."""
    c, h, w = x.shape
    blocks = x.reshape(c // side**2, side, side, h, w).transpose(0, 3, 1, 4, 2)
    return blocks.reshape(c // side**2, h * side, w * side)
