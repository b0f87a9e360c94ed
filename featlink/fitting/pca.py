"""Fit the basis of the ``pca`` step to a network: covariances of its features over some pictures, no labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featlink.channel.reduction.pca import Basis, Grid, gather
from featlink.dataset import MAX_PIXELS
from featlink.shared import fitted
from featlink.shared.errors import ModelError
from featlink.shared.features import Array
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.shared.pictures import decode

Matrix = npt.NDArray[np.float64]

CELL, GROUP = 448, 1024
"""Components of a cell of 16×16 pixels, and of 2×2 such cells, that a basis keeps at most."""

CHANNELS = 64
"""That a level keeps at most."""

_WORTH = {4: 2.2, 8: 1.4, 16: 1.6, 32: 2.0}
"""By stride. A coarse level has fewer samples, and each decides on more of the picture; small objects are on the finest
alone. Levels of other strides weigh as those of the nearest."""
_KEPT = 0.99999
"""Share of a level's variance that its kept channels have."""
_READ = 1e-7
"""Directions that weigh less than this share of the heaviest one are not read by any head."""
_NOTHING = 1e-9
"""Share of the largest component's variance below which there is none: of cells that share a sample, say."""
_FOR_CHANNELS = 40
"""Pictures for the covariance of channels: far fewer numbers than that of cells."""


def fit(config: ModelConfig, pictures: Sequence[Path], done: Callable[[], None], channels: int = CHANNELS) -> Basis:
    """Fit the basis to a network.

    Args:
        config: the network.
        pictures: files; the more, the better. Nothing of them is kept but covariances.
        done: called after each of the :func:`rounds` pictures.
        channels: that a level keeps at most; time and memory grow with its square.

    Raises:
        ModelError: the weights cannot be had, the pictures say nothing of them, or what crosses the link has no cells.
        ImageError: a file is not a picture.
    """
    whole = build(config.but(profile="exact", device="cpu"))
    try:
        grid = Grid.of(whole.spec)
    except ModelError as error:
        raise ModelError(f"pca of {whole.name} {error}") from None
    metrics = {name: gram(layers) for name, layers in whole.readers().items()}
    model = build(config, heads=False)

    def pyramids(paths: Iterable[Path]) -> Iterable[dict[str, Array]]:
        for path in paths:
            yield dict(model.encode(decode(path.read_bytes(), MAX_PIXELS)).levels)
            done()

    mapped = _channels(pyramids(_for_channels(pictures)), metrics, grid, model, channels)
    return _components(lambda: pyramids(pictures), mapped)


def rounds(pictures: Sequence[Path]) -> int:
    """How often a picture goes through the network."""
    return 2 * len(pictures) + len(_for_channels(pictures))


def _for_channels(pictures: Sequence[Path]) -> Sequence[Path]:
    return pictures[:: max(1, len(pictures) // _FOR_CHANNELS)]


def _channels(
    pyramids: Iterable[dict[str, Array]], metrics: Mapping[str, Matrix], grid: Grid, model: SplitModel, most: int
) -> Basis:
    """Each level's KLT in its metric, or, without one, in that of its mean variance; no components yet."""
    counts, sums, squares = dict.fromkeys(grid.strides, 0), dict[str, Matrix](), dict[str, Matrix]()
    for levels in pyramids:
        for name in grid.strides:
            x = levels[name].reshape(len(levels[name]), -1)
            counts[name] += x.shape[1]
            sums[name] = sums.get(name, 0.0) + x.sum(1, dtype=np.float64)
            squares[name] = squares.get(name, 0.0) + (x @ x.T).astype(np.float64)
    forward, inverse, means = {}, {}, {}
    for name in grid.strides:
        mean = sums[name] / counts[name]
        covariance = squares[name] / counts[name] - np.outer(mean, mean)
        if not np.trace(covariance) > 0:
            raise ModelError(f"{name} is the same everywhere in these pictures: nothing to fit")
        metric = metrics.get(name, np.eye(len(mean)) * len(mean) / np.trace(covariance))
        values, vectors = np.linalg.eigh(metric)
        read = values > _READ * values.max()
        root = (vectors[:, read] * np.sqrt(values[read])).T  # metric = rootᵀ·root
        back = vectors[:, read] / np.sqrt(values[read])
        spectrum, basis = _descending(root @ covariance @ root.T)
        if not spectrum[0] > 0:
            raise ModelError(f"{name} is the same everywhere in these pictures: nothing to fit")
        kept = min(most, int(np.searchsorted(np.cumsum(spectrum) / spectrum.sum(), _KEPT)) + 1)
        forward[name] = (basis[:, :kept].T @ root).astype(np.float32)
        inverse[name] = (back @ basis[:, :kept]).astype(np.float32)
        means[name] = (basis[:, :kept].T @ root @ mean).astype(np.float32)
    worth = _worth(grid, before_pyramid=model.split == "c2-c5")
    none = np.zeros((0, 0), np.float32)
    known_as = fitted.key(model.weights, model.spec)
    return Basis(forward, inverse, means, worth, none, none, none.reshape(0), known_as, model.name, grid)


def _worth(grid: Grid, before_pyramid: bool) -> dict[str, float]:
    """Of each level. Before an FPN, a level is part of its own in the pyramid and, enlarged, of all finer ones."""
    worth = {name: _WORTH[min(_WORTH, key=lambda one: abs(one - stride))] for name, stride in grid.strides.items()}
    if before_pyramid:
        reached = 0.0  # by an error of one sample, squared
        for name in worth:
            reached = worth[name] ** 2 + 4 * reached
            worth[name] = math.sqrt(reached)
    return worth


def _components(pyramids: Callable[[], Iterable[dict[str, Array]]], channels: Basis) -> Basis:
    """The components of cells, then those of 2×2 such cells; each from a covariance of its own."""

    def cells() -> Iterator[Array]:
        for levels in pyramids():
            yield channels.grid.join({name: channels.centred(name, levels[name]) for name in channels.mean})

    square, count = _covariance(cells())
    cell = _descending(square)[1][:, : min(CELL, count)].astype(np.float32)

    def groups() -> Iterator[Array]:
        for one in cells():
            yield gather((cell.T @ one.reshape(len(one), -1)).reshape(-1, *one.shape[1:]), 2)

    square, count = _covariance(groups())
    spectrum, group = _descending(square)
    last = min(GROUP, count, int(np.count_nonzero(spectrum > _NOTHING * spectrum[0])))
    return replace(
        channels,
        cell=cell,
        group=group[:, :last].astype(np.float32),
        deviation=np.sqrt(spectrum[:last].clip(0)).astype(np.float32),
    )


def _covariance(arrays: Iterable[Array]) -> tuple[Matrix, int]:
    """Of vectors around zero, (D, H, W) at a time, and how many there were."""
    count, square = 0, np.zeros((0, 0), np.float32)
    for array in arrays:
        x = array.reshape(len(array), -1)
        count += x.shape[1]
        one = x @ x.T
        square = np.add(square, one, out=square) if square.size else one
    return square.astype(np.float64) / count, count


def _descending(symmetric: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues and vectors, the largest first."""
    values, vectors = np.linalg.eigh(symmetric)
    return values[::-1], vectors[:, ::-1]


# How errors of features weigh on what the network's rest reads of them.


def gram(layers: Sequence[Matrix]) -> Matrix:
    """(C, C): Σ WᵀW over layers that read a level, taps summed, each layer's trace 1.

    An error e of a sample's channels changes what these layers see by eᵀ·gram·e, so a direction that none of them
    reads weighs nothing.

    Args:
        layers: weights (O, C, h, w), as :meth:`featlink.shared.models.protocol.SplitModel.readers` has them.
    """
    total: Matrix = np.zeros(())
    for taps in layers:
        one = np.einsum("oihw,ojhw->ij", taps, taps, optimize=True)
        total = total + one / np.trace(one)
    return total
