"""RoIAlign as a weighted gather, some ten times faster than torchvision's on a CPU when gradients are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_KEYS = ("0", "1", "2", "3")
_SAMPLES = 2


class GatherRoIAlign(nn.Module):
    """The same function as ``MultiScaleRoIAlign(["0", "1", "2", "3"], size, 2)`` on strides 4 to 32.

    Every output cell is the mean of 2×2 bilinear samples: a weighted sum of 16 pixels, as ``embedding_bag`` computes.

    Args:
        size: output cells per side.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.output_size = (size, size)  # torchvision's mask head reads it

    def forward(
        self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Features of boxes.

        Args:
            features: p2..p5 as (N, C, H, W).
            boxes: for each image (K, 4): left, top, right, bottom in input pixels.
            image_shapes: unused; torchvision infers the scales from them.

        Returns:
            (sum of K, C, size, size) in channels-last layout.
        """
        everything = torch.cat(list(boxes)).float()
        images = torch.cat([torch.full((len(own),), i, device=own.device) for i, own in enumerate(boxes)])
        sides = everything[:, 2:] - everything[:, :2]
        # Feature Pyramid Networks, eq. 1, as torchvision computes it.
        levels = torch.floor(4 + torch.log2(sides.prod(1).sqrt() / 224) + 1e-6).clamp(2, 5).long() - 2
        pooled, order = [], []
        for level, key in enumerate(_KEYS):
            chosen = torch.where(levels == level)[0]
            table = features[key].permute(0, 2, 3, 1)
            index, weight = _cells(everything[chosen] / (4 << level), images[chosen], table.shape[1:3], self.size)
            rows: Tensor = _WeightedGather.apply(table.flatten(0, 2).float(), index, weight)
            pooled.append(rows.view(len(chosen), self.size, self.size, table.shape[3]))
            order.append(chosen)
        return torch.cat(pooled)[torch.argsort(torch.cat(order))].permute(0, 3, 1, 2)


@torch.no_grad()
def _cells(boxes: Tensor, images: Tensor, shape: Sequence[int], size: int) -> tuple[Tensor, Tensor]:
    """For each output cell the 16 pixels it is made of and their weights: (K · size², 16) each."""
    height, width = shape
    x, along_x = _axis(boxes[:, 0], boxes[:, 2], width, size)
    y, along_y = _axis(boxes[:, 1], boxes[:, 3], height, size)
    rows = images[:, None, None] * (height * width) + y * width
    index = rows[:, :, None, :, None] + x[:, None, :, None, :]
    weight = along_y[:, :, None, :, None] * along_x[:, None, :, None, :]
    return index.reshape(-1, 16), weight.reshape(-1, 16)


def _axis(low: Tensor, high: Tensor, length: int, size: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the 2 × 2 neighbours of each cell's samples, (K, size, 4), and their weights."""
    step = (high - low).clamp(min=1) / (size * _SAMPLES)
    position = low[:, None] + (torch.arange(size * _SAMPLES, device=low.device) + 0.5) * step[:, None]
    inside = (position >= -1) & (position <= length)
    position = position.clamp(0, length - 1)
    lower = position.floor().long()
    upper = (lower + 1).clamp(max=length - 1)
    share = position - lower
    index = torch.stack([lower, upper], -1)
    weight = torch.stack([1 - share, share], -1) * inside[..., None] / _SAMPLES
    return index.view(len(low), size, 4), weight.view(len(low), size, 4)


class _WeightedGather(torch.autograd.Function):
    """``out[i] = Σ_k weight[i, k] · table[index[i, k]]``; the gradient is gathered too, which beats scattering it."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.rows = len(table)
        return functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, weight = ctx.saved_tensors
        flat = index.reshape(-1)
        order = torch.argsort(flat)
        count = torch.bincount(flat, minlength=ctx.rows)
        start = torch.cumsum(count, 0) - count
        users = order // index.shape[1]
        by_row = weight.reshape(-1)[order]
        gathered = functional.embedding_bag(
            users, gradients[0].contiguous(), start, per_sample_weights=by_row, mode="sum"
        )
        return gathered, None, None
