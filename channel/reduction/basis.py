"""The linear maps of the PCA: fitted once to a network, kept in a file, the same at both ends of the link."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from featlink.channel.reduction.cells import SIDES, gather, join, scatter, split
from featlink.shared import fitted
from featlink.shared.features import Array

FORMAT = "featlink-pca-1"
"""Of the file; another is refused."""


@dataclass(frozen=True, eq=False)
class Basis:
    """Channels of each level to those that the heads read, then cells of all levels to components, then 2×2 cells.

    Errors of the components weigh the same, so one quantisation step for all is reverse water-filling, and the first
    components are the most important.

    Attributes:
        forward: level to (C', 256): an orthonormal metric of errors, uncorrelated channels, the largest first.
        inverse: level to (256, C').
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
        """Levels p2..p5 (256, H, W) to components (K, h, w) at p5's positions."""
        cells = join({name: self.centred(name, levels[name]) for name in SIDES})
        return mapped(self.group[:, :components].T, gather(mapped(self.cell.T, cells), 2))

    def synthesise(self, components: Array) -> dict[str, Array]:
        """Components (K, h, w) to levels p2..p5 (256, H, W)."""
        cells = mapped(self.cell, scatter(mapped(self.group[:, : len(components)], components), 2))
        levels = split(cells, {name: len(self.mean[name]) for name in SIDES})
        return {
            name: mapped(self.inverse[name], level / self.worth[name] + self.mean[name][:, None, None])
            for name, level in levels.items()
        }

    def multiply_adds(self, shapes: Mapping[str, tuple[int, int, int]], components: int) -> int:
        """Of the matrix products of :meth:`analyse`, and as many of :meth:`synthesise`.

        Args:
            shapes: (C, H, W) of p2..p5.
            components: K.
        """
        height, width = shapes["p5"][1:]
        channels = sum(self.forward[name].size * shapes[name][1] * shapes[name][2] for name in SIDES)
        return int(channels + self.cell.size * 4 * height * width + len(self.group) * components * height * width)

    def centred(self, name: str, level: Array) -> Array:
        """One level's mapped channels around zero, by the level's worth."""
        return (mapped(self.forward[name], level) - self.mean[name][:, None, None]) * np.float32(self.worth[name])


def encode(basis: Basis) -> bytes:
    """The file: safetensors; the large maps in half precision."""
    arrays = arrays_of(basis)
    arrays |= {name: arrays[name].astype(np.float16) for name in ("cell", "group")}
    return fitted.encode(FORMAT, arrays, basis.weights, basis.architecture)


def read(path: Path) -> Basis:
    """Read what :func:`encode` made.

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
