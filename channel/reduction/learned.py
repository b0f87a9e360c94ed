"""What ``featlink fit bottleneck`` learns: a basis, and networks for both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featlink.channel.reduction.basis import Basis, arrays_of, basis_of
from featlink.channel.reduction.networks import Layers
from featlink.shared import fitted
from featlink.shared.features import Array

FORMAT = "featlink-bottleneck-1"
"""Of the file; another is refused."""
_LARGE = ("cell", "group")
_LAYERS = ("gains.", "refine.")


@dataclass(frozen=True, eq=False)
class Learned:
    """A linear transform and what the networks add to it.

    Attributes:
        basis: of the ``pca`` step, its large maps rounded to 8 bits.
        layers: of :mod:`featlink.channel.reduction.networks`.
    """

    basis: Basis
    layers: Layers


def encode(learned: Learned) -> bytes:
    """The file: the basis' large maps in 8 bits, networks in half precision."""
    arrays = arrays_of(learned.basis)
    for name in _LARGE:
        arrays[name], arrays[f"{name}.scale"] = _rounded(arrays[name])
    arrays |= {name: layer.astype(np.float16) for name, layer in learned.layers.items()}
    return fitted.encode(FORMAT, arrays, learned.basis.weights, learned.basis.architecture)


def read(path: Path) -> Learned:
    """Read what :func:`encode` made.

    Raises:
        ModelError: it cannot be read, is damaged, or not such a file.
    """
    arrays, facts = fitted.read(path, FORMAT, "featlink fit bottleneck")
    for name in _LARGE:
        arrays[name] = arrays[name] * arrays[f"{name}.scale"]
    layers = {name: array.astype(np.float32) for name, array in arrays.items() if name.startswith(_LAYERS)}
    return Learned(basis_of(arrays, facts), layers)


def as_stored(basis: Basis) -> Basis:
    """The basis with its large maps as the file will have them."""
    arrays: Mapping[str, np.ndarray] = arrays_of(basis)
    kept = {name: np.multiply(*_rounded(arrays[name])) for name in _LARGE}
    return basis_of({**arrays, **kept}, {"weights": basis.weights, "architecture": basis.architecture})


def _rounded(matrix: Array) -> tuple[np.ndarray, Array]:
    """8 bits for each value, and a scale for each column."""
    scale = (np.abs(matrix).max(0).clip(1e-12) / 127).astype(np.float32)
    return np.rint(matrix / scale).astype(np.int8), scale
