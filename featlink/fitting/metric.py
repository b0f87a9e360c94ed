"""How errors of features weigh on what the heads read of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

Matrix = npt.NDArray[np.float64]


def gram(network: GeneralizedRCNN) -> Matrix:
    """(256, 256): Σ WᵀW over the first layers of RPN, box and mask head, taps summed, each head's trace 1.

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
    """Weights (O, 256, h, w) that read the pyramid."""
    from torch import nn

    heads = network.roi_heads
    height, width = heads.box_roi_pool.output_size
    for head in (network.rpn.head, heads.box_head, heads.mask_head):
        if head is not None:  # Faster R-CNN has no masks
            layer = next(module for module in head.modules() if isinstance(module, nn.Conv2d | nn.Linear))
            weight: Matrix = layer.weight.detach().double().numpy()
            yield weight if weight.ndim == 4 else weight.reshape(len(weight), -1, height, width)
