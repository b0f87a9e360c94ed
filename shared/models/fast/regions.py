"""The heads of pooled regions, compiled by OpenVINO; they read regions as they are pooled, channels last."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from featlink.shared.models.fast.graph import Graph, Precision


class RegionHead(nn.Module):
    """A head of regions, of which there may be none.

    Args:
        head: takes (K, channels, height, width) to (K, …); its weights may be brought into another order.
        channels: of a region.
        size: (height, width) of a region.
        threads: CPU threads.
        precision: of the arithmetic inside.
    """

    def __init__(
        self, head: nn.Module, channels: int, size: tuple[int, int], threads: int, precision: Precision = "f32"
    ) -> None:
        super().__init__()
        head = _channels_last(head, channels, size)
        self._run = Graph(head, torch.zeros(2, *size, channels), (-1, *size, channels), threads, precision)
        with torch.no_grad():
            self._empty = head(torch.zeros(1, *size, channels))[:0]

    def forward(self, regions: Tensor) -> Tensor:
        """Run the head.

        Args:
            regions: float32 (K, channels, height, width), fastest in channels-last memory.
        """
        return self._run(regions.permute(0, 2, 3, 1))[0] if len(regions) else self._empty


def _channels_last(head: nn.Module, channels: int, size: tuple[int, int]) -> nn.Module:
    """The same head of (K, height, width, channels)."""
    if not isinstance(head, TwoMLPHead):
        return _Permuted(head)
    weight = head.fc6.weight.unflatten(1, (channels, *size)).permute(0, 2, 3, 1).flatten(1).contiguous()
    head.fc6.weight = nn.Parameter(weight, requires_grad=False)
    permuted: nn.Module = head
    return permuted


class _Permuted(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(x.permute(0, 3, 1, 2))
        return result
