"""Turn the narrow network into the stock, full-width ``maskrcnn_resnet50_fpn`` that computes the same detections.

Every layer's weights become a corner of the wide layer's; the rest is zero, so the added channels are zero as well, and
a bottleneck that the narrow network lacks adds nothing to what passes by it.
The pyramid is the exception, since it is what Featlink distorts: dead channels would make every distortion meaningless.
Each narrow pyramid channel becomes four wide ones: itself and three further linear features of the same FPN map, mixed
by a 4×4 Hadamard matrix. The heads undo the mixing and read the first, so detections stay what they were, while all
256 channels carry signal, and what a distortion does to any of them reaches the heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

CHANNELS = 256
"""Of every level of the stock pyramid."""

HADAMARD = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
"""Orthonormal, and exact in floating point."""

PYRAMID_READERS = ("rpn.head.conv", "roi_heads.box_head.fc6", "roi_heads.mask_head.0.0")
"""Layers that read the pyramid."""
ROWS = {"cls_score": 1, "bbox_pred": 4, "mask_fcn_logits": 1}
"""Outputs per class of the heads' last layers."""

_NO_CLASS = -1000.0
"""Logit of classes that were not trained: their probability is exactly zero."""


def embed(
    network: MaskRCNN, categories: Sequence[int], samples: Tensor, stock: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The stock network's weights.

    Args:
        network: :func:`training.narrow.narrow`, trained, in eval mode; 64 pyramid channels.
        categories: COCO id of the network's labels 1, 2, ...
        samples: normalised images (N, 3, H, W) on which the further features get their scale.
        stock: state dict of ``maskrcnn_resnet50_fpn(num_classes=91)``, for its keys and shapes.

    Returns:
        A state dict with the keys and shapes of ``stock``.
    """
    narrow = network.state_dict()
    wide: dict[str, Tensor] = {}
    for name, like in stock.items():
        value = narrow.get(name, like[:0] if like.ndim else like)
        layer = name.split(".")[-2]
        if name.startswith("backbone.fpn.layer_blocks."):
            continue
        if name.startswith(PYRAMID_READERS) and value.ndim > 1:
            value = _unmixed(value)
        if name.startswith("roi_heads.") and layer in ROWS:
            value = _spread(value, [0, *categories], ROWS[layer], like.shape[0])
        wide[name] = _corner(value, like)
        if name.endswith("running_var"):
            wide[name][len(value) :] = 1
        if name == "roi_heads.box_predictor.cls_score.bias":
            trained = torch.zeros(len(like), dtype=torch.bool).index_fill(0, torch.tensor([0, *categories]), True)
            wide[name][~trained] = _NO_CLASS
    for level, block in enumerate(network.backbone.fpn.layer_blocks):
        weight, bias = _widened(block[0], _inputs(network, block, samples))
        key = f"backbone.fpn.layer_blocks.{level}.0"
        wide[f"{key}.weight"] = _corner(weight, stock[f"{key}.weight"])
        wide[f"{key}.bias"] = bias
    return wide


def _corner(value: Tensor, like: Tensor) -> Tensor:
    result = torch.zeros_like(like)
    result[tuple(slice(0, length) for length in value.shape)] = value
    return result


def _spread(value: Tensor, labels: Sequence[int], rows: int, total: int) -> Tensor:
    """Moves the rows of each narrow label to those of its COCO id; rows that all labels share go to each of them."""
    if len(value) == rows:
        value = value.repeat(len(labels), *[1] * (value.ndim - 1))
    result = value.new_zeros(total, *value.shape[1:])
    for label, category in enumerate(labels):
        result[category * rows : (category + 1) * rows] = value[label * rows : (label + 1) * rows]
    return result


def _unmixed(weight: Tensor) -> Tensor:
    """Weights on the narrow pyramid (O, 64 · n, ...) to those on the wide one: they read the first of each four."""
    out = len(weight)
    narrow = CHANNELS // len(HADAMARD)
    grouped = weight.reshape(out, narrow, 1, -1) * HADAMARD[:, 0].view(1, 1, -1, 1)
    if weight.ndim == 2:
        return grouped.reshape(out, -1)
    return grouped.reshape(out, CHANNELS, *weight.shape[2:])


@torch.no_grad()
def _inputs(network: MaskRCNN, block: nn.Module, samples: Tensor) -> Tensor:
    """What an FPN output convolution sees."""
    seen: list[Tensor] = []
    with block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        network.backbone(samples)
    return seen[0]


@torch.no_grad()
def _widened(convolution: nn.Conv2d, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The narrow convolution and three times as many others, mixed: weight (256, inner, 3, 3), bias (256,)."""
    first, first_bias = convolution.weight, convolution.bias
    if first_bias is None:
        raise ValueError("FPN convolutions have a bias")
    count, further = len(first), CHANNELS - len(first)
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(first.flatten(1).double().T)
    random = torch.randn(basis.shape[0], further, generator=generator, dtype=torch.float64)
    others, _ = torch.linalg.qr(random - basis @ (basis.T @ random))  # orthogonal to the trained filters
    filters = others.T.float().view(further, *first.shape[1:])
    scale = convolution(inputs).std((0, 2, 3)).repeat_interleave(further // count)
    responses = nn.functional.conv2d(inputs, filters, padding=1)
    filters = filters * (scale / responses.std((0, 2, 3)))[:, None, None, None]
    offset = -responses.mean((0, 2, 3)) * scale / responses.std((0, 2, 3))
    weight = torch.cat([first.view(count, 1, -1), filters.view(count, further // count, -1)], 1)
    bias = torch.cat([first_bias.view(count, 1), offset.view(count, -1)], 1)
    return (HADAMARD @ weight).view(CHANNELS, *first.shape[1:]), (bias @ HADAMARD.T).flatten()
