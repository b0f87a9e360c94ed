"""The narrow network back from the stock one it became, so that training goes on from the package's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training.embed import CHANNELS, HADAMARD, PYRAMID_READERS, ROWS


def extract(wide: Mapping[str, Tensor], like: Mapping[str, Tensor], categories: Sequence[int]) -> dict[str, Tensor]:
    """The narrow network's weights: the inverse of :func:`training.embed.embed`.

    Args:
        wide: state dict that ``embed`` made.
        like: state dict of a narrow network of the same widths, for its keys and shapes.
        categories: COCO id of its labels 1, 2, ...

    Returns:
        A state dict with the keys and shapes of ``like``.
    """
    narrow = {}
    for name, shaped in like.items():
        value = wide[name]
        layer = name.split(".")[-2]
        if name.startswith("backbone.fpn.layer_blocks."):
            value = _unmixed(value, 0)
        elif name.startswith(PYRAMID_READERS) and value.ndim > 1:
            value = _unmixed(value.view(len(value), CHANNELS, -1), 1).reshape(len(value), -1, *shaped.shape[2:])
        elif name.startswith("roi_heads.") and layer in ROWS:
            rows = ROWS[layer]
            labels = categories[:1] if len(shaped) == rows else [0, *categories]
            value = torch.cat([value[label * rows : (label + 1) * rows] for label in labels])
        narrow[name] = value[tuple(slice(0, length) for length in shaped.shape)].clone()
    return narrow


def _unmixed(value: Tensor, axis: int) -> Tensor:
    """The first of the four features that each four of the pyramid's channels, along an axis, are mixed of."""
    grouped = value.reshape(*value.shape[:axis], -1, len(HADAMARD), *value.shape[axis + 1 :])
    first: Tensor = torch.tensordot(grouped, HADAMARD[:, 0], dims=([axis + 1], [0]))
    return first
