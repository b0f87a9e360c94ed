"""The linear maps of the PCA: fitted once to a network, kept in a file, the same at both ends of the link."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from threadpoolctl import ThreadpoolController

from channel.reduction.cells import SIDES, gather, join, scatter, split
from shared.errors import ModelError
from shared.frames.pyramid import Array

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
        cell: (D, K1), orthonormal columns: from a cell of 16×16 pixels, see :func:`channel.reduction.cells.join`.
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
        return _map(self.group[:, :components].T, gather(_map(self.cell.T, cells), 2))

    def synthesise(self, components: Array) -> dict[str, Array]:
        """Components (K, h, w) to levels p2..p5 (256, H, W)."""
        cells = _map(self.cell, scatter(_map(self.group[:, : len(components)], components), 2))
        levels = split(cells, {name: len(self.mean[name]) for name in SIDES})
        return {
            name: _map(self.inverse[name], level / self.worth[name] + self.mean[name][:, None, None])
            for name, level in levels.items()
        }

    def centred(self, name: str, level: Array) -> Array:
        """One level's mapped channels around zero, by the level's worth."""
        mapped = _map(self.forward[name], level) - self.mean[name][:, None, None]
        return mapped * np.float32(self.worth[name])


def encode(basis: Basis) -> bytes:
    """The file: safetensors; the large maps in half precision."""
    arrays = {f"{part}.{name}": getattr(basis, part)[name] for part in ("forward", "inverse", "mean") for name in SIDES}
    arrays |= {"cell": basis.cell.astype(np.float16), "group": basis.group.astype(np.float16)}
    arrays |= {
        "deviation": basis.deviation,
        "worth": np.array([basis.worth[name] for name in SIDES], np.float32),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    facts = {"weights": basis.weights, "architecture": basis.architecture, "format": FORMAT}
    return save(arrays, metadata=facts | {"sha256": _digest(arrays)})


def read(path: Path) -> Basis:
    """Read what :func:`encode` made.

    Raises:
        ModelError: it cannot be read, is damaged, or not such a file.
    """
    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None
    if facts.get("format") != FORMAT:
        raise ModelError(f"{path} is not a basis that `featlink fit pca` of this version writes")
    if facts.get("sha256") != _digest(arrays):
        raise ModelError(f"{path} is damaged: its arrays do not have the digest that it states")
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


def _map(matrix: Array, x: Array) -> Array:
    """On one thread: BLAS rounds by how it shares a product out, and no result may depend on the number of cores."""
    with _alone, _blas().limit(limits=1, user_api="blas"):
        mapped: Array = (matrix @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])
    return mapped


_alone = threading.Lock()  # the limit is the process's, and ends with the first that leaves it


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
