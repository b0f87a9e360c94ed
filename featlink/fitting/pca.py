"""Fit the basis of the ``pca`` step to a network: covariances of its features over some pictures, no labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlink.channel.reduction.pca import SIDES, Basis, gather, join
from featlink.dataset import MAX_PIXELS
from featlink.shared.errors import ModelError
from featlink.shared.features import Array
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN
from featlink.shared.pictures import decode

Matrix = npt.NDArray[np.float64]

CELL, GROUP = 448, 1024
"""Components of a cell of 16×16 pixels, and of 2×2 such cells, that a basis keeps at most."""

CHANNELS = 64
"""That a level keeps at most."""

_WORTH = dict(zip(SIDES, (2.2, 1.4, 1.6, 2.0), strict=True))
"""A coarse level has fewer samples, and each decides on more of the picture; small objects are on the finest alone."""
_KEPT = 0.99999
"""Share of a level's variance that its kept channels have."""
_READ = 1e-7
"""Directions that weigh less than this share of the heaviest one are not read by any head."""
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
        ModelError: the weights cannot be had, the pictures say nothing of them, or it is no detector of torchvision's.
        ImageError: a file is not a picture.
    """
    whole = build(config.but(profile="exact", device="cpu"))
    if not isinstance(whole, TorchvisionRCNN):
        raise ModelError(f"cannot fit to {whole.name}: what its heads read is known of torchvision's detectors alone")
    if lacking := [name for name in SIDES if name not in whole.spec.names]:
        raise ModelError(f"cannot fit to {whole.name}: {lacking[0]} does not cross its link, and all levels are joined")
    metric = gram(whole.network)
    model = build(config, heads=False)

    def pyramids(paths: Iterable[Path]) -> Iterable[dict[str, Array]]:
        for path in paths:
            yield dict(model.encode(decode(path.read_bytes(), MAX_PIXELS)).levels)
            done()

    mapped = _channels(pyramids(_for_channels(pictures)), metric, model, channels)
    return _components(lambda: pyramids(pictures), mapped)


def rounds(pictures: Sequence[Path]) -> int:
    """How often a picture goes through the network."""
    return 2 * len(pictures) + len(_for_channels(pictures))


def _for_channels(pictures: Sequence[Path]) -> Sequence[Path]:
    return pictures[:: max(1, len(pictures) // _FOR_CHANNELS)]


def _channels(pyramids: Iterable[dict[str, Array]], metric: Matrix, model: SplitModel, most: int) -> Basis:
    """Each level's KLT in the metric; no components yet."""
    values, vectors = np.linalg.eigh(metric)
    read = values > _READ * values.max()
    root = (vectors[:, read] * np.sqrt(values[read])).T  # metric = rootᵀ·root
    back = vectors[:, read] / np.sqrt(values[read])
    counts = dict.fromkeys(SIDES, 0)
    sums = {name: np.zeros(len(root)) for name in SIDES}
    squares = {name: np.zeros((len(root), len(root))) for name in SIDES}
    for levels in pyramids:
        for name in SIDES:
            y = root.astype(np.float32) @ levels[name].reshape(len(metric), -1)
            counts[name] += y.shape[1]
            sums[name] += y.sum(1, dtype=np.float64)
            squares[name] += y @ y.T
    forward, inverse, means = {}, {}, {}
    for name in SIDES:
        mean = sums[name] / counts[name]
        spectrum, basis = _descending(squares[name] / counts[name] - np.outer(mean, mean))
        if not spectrum[0] > 0:
            raise ModelError(f"{name} is the same everywhere in these pictures: nothing to fit")
        kept = min(most, int(np.searchsorted(np.cumsum(spectrum) / spectrum.sum(), _KEPT)) + 1)
        forward[name] = (basis[:, :kept].T @ root).astype(np.float32)
        inverse[name] = (back @ basis[:, :kept]).astype(np.float32)
        means[name] = (basis[:, :kept].T @ mean).astype(np.float32)
    none = np.zeros((0, 0), np.float32)
    return Basis(forward, inverse, means, _WORTH, none, none, none.reshape(0), model.weights, model.name)


def _components(pyramids: Callable[[], Iterable[dict[str, Array]]], channels: Basis) -> Basis:
    """The components of cells, then those of 2×2 such cells; each from a covariance of its own."""

    def cells() -> Iterator[Array]:
        for levels in pyramids():
            yield join({name: channels.centred(name, levels[name]) for name in SIDES})

    square, count = _covariance(cells())
    cell = _descending(square)[1][:, : min(CELL, count)].astype(np.float32)

    def groups() -> Iterator[Array]:
        for one in cells():
            yield gather((cell.T @ one.reshape(len(one), -1)).reshape(-1, *one.shape[1:]), 2)

    square, count = _covariance(groups())
    spectrum, group = _descending(square)
    last = min(GROUP, count)
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


# How errors of features weigh on what the heads read of them.


def gram(network: GeneralizedRCNN) -> Matrix:
    """(C, C): Σ WᵀW over the first layers of RPN, box and mask head, taps summed, each head's trace 1.

    An error e of a sample's channels changes what the heads' first layers see by eᵀ·gram·e, so a direction that no
    head reads weighs nothing.

    Args:
        network: with heads, as torchvision builds it.
    """
    total: Matrix = np.zeros(())
    for taps in _first_layers(network):
        one = np.einsum("oihw,ojhw->ij", taps, taps)
        total = total + one / np.trace(one)
    return total


def _first_layers(network: GeneralizedRCNN) -> Iterator[Matrix]:
    """Weights (O, C, h, w) that read the pyramid."""
    heads = network.roi_heads
    height, width = heads.box_roi_pool.output_size
    for head in (network.rpn.head, heads.box_head, heads.mask_head):
        if head is not None:  # Faster R-CNN has no masks
            layer = next(module for module in head.modules() if isinstance(module, nn.Conv2d | nn.Linear))
            weight: Matrix = layer.weight.detach().double().numpy()
            yield weight if weight.ndim == 4 else weight.reshape(len(weight), -1, height, width)
