"""How errors of features weigh on what the heads read of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

Matrix = npt.NDArray[np.float64]


def gram(network: GeneralizedRCNN) -> Matrix:
    """(256, 256): Σ WᵀW over the first layers of RPN, box and mask head, taps summed, each head's trace 1.

    An error e of a sample's channels changes what the heads' first layers see by eᵀ·gram·e, so a direction that no
    head reads weighs nothing.

    Args:
        network: with heads, as torchvision builds it.
    """
    total: Matrix = np.zeros((0, 0))
    for weight in _first_layers(network):
        taps = weight.detach().double().numpy()
        one = np.einsum("oihw,ojhw->ij", taps, taps)
        total = one / np.trace(one) + (total if total.size else 0)
    return total


def _first_layers(network: GeneralizedRCNN) -> list[Tensor]:
    """Weights (O, 256, h, w) that read the pyramid."""
    from torch import nn

    heads = network.roi_heads
    first = [network.rpn.head, heads.box_head, *([] if heads.mask_head is None else [heads.mask_head])]
    found = []
    for head in first:
        layer = next(module for module in head.modules() if isinstance(module, nn.Conv2d | nn.Linear))
        weight = layer.weight
        found.append(weight if weight.ndim == 4 else weight.unflatten(1, (-1, *heads.box_roi_pool.output_size)))
    return found
