"""The ``bf16`` profile: the network's convolutions and its box head in bfloat16, on CPUs with instructions for it.

A bfloat16 is the upper half of a float32: the same range with 8 significant bits. Products are added up in float32.
RoIAlign, the box predictor, box decoding, thresholds, NMS and everything before and after the network stay float32.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlink.shared.errors import ModelError
from featlink.shared.models.fast.graph import Graph
from featlink.shared.models.fast.masks import MaskBranch
from featlink.shared.models.fast.prune import drop_dead_channels
from featlink.shared.models.fast.regions import RegionHead
from featlink.shared.models.fast.roi_align import FastRoIAlign
from featlink.shared.models.fast.vino import openvino

_LEVELS = ("0", "1", "2", "3")
"""torchvision's names of p2..p5."""


def refusal() -> str | None:
    """Why this CPU cannot run the profile; None if it multiplies bfloat16 numbers. Emulated, they would be slow."""
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    return "bf16 needs a CPU with AVX512-BF16 or AMX, which this one has not; take 'fast'"


def accelerate_bfloat16(network: GeneralizedRCNN, threads: int) -> None:
    """Replace a network's expensive modules in place; masks become the work of ``network.mask_branch``.

    Args:
        network: a torchvision Faster or Mask R-CNN in eval mode, weights loaded.
        threads: CPU threads of one inference.

    Raises:
        ModelError: the CPU has no instructions for bfloat16.
    """
    if reason := refusal():
        raise ModelError(f"profile: {reason}")
    drop_dead_channels(network)
    channels = network.backbone.out_channels
    network.backbone = _Backbone(network.backbone, threads)
    if network.rpn is None:  # an edge: nothing behind the backbone
        return
    network.rpn.head = _RpnHead(network.rpn.head, channels, threads)
    heads = network.roi_heads
    heads.box_roi_pool = FastRoIAlign.like(heads.box_roi_pool, threads)
    heads.box_head = RegionHead(heads.box_head, channels, heads.box_roi_pool.output_size, threads, "bf16")
    if heads.mask_roi_pool is not None:
        pool = FastRoIAlign.like(heads.mask_roi_pool, threads)
        hidden = RegionHead(heads.mask_head, channels, pool.output_size, threads, "bf16")
        network.mask_branch = MaskBranch(pool, hidden, heads.mask_predictor, torch.bfloat16)
        heads.mask_roi_pool = heads.mask_head = heads.mask_predictor = None


class _Levels(nn.Module):
    """A backbone as a function to a tuple; p6 is made outside."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = self.backbone(x)
        return tuple(levels[name] for name in _LEVELS)


class _Backbone(nn.Module):
    def __init__(self, backbone: Any, threads: int) -> None:
        super().__init__()
        self.out_channels = backbone.out_channels
        self._run = Graph(_Levels(backbone), torch.zeros(1, 3, 64, 96), (1, 3, -1, -1), threads, "bf16")

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        levels = OrderedDict(zip(_LEVELS, self._run(x), strict=True))
        levels["pool"] = levels["3"][:, :, ::2, ::2]
        return levels


class _ChannelsLast(nn.Module):
    """An RPN head on one level, all of it (1, H, W, C)."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.head.conv(x.permute(0, 3, 1, 2))
        return self.head.cls_logits(hidden).permute(0, 2, 3, 1), self.head.bbox_pred(hidden).permute(0, 2, 3, 1)


class _RpnHead(nn.Module):
    def __init__(self, head: Any, channels: int, threads: int) -> None:
        super().__init__()
        self._run = Graph(_ChannelsLast(head), torch.zeros(1, 8, 8, channels), (1, -1, -1, channels), threads, "bf16")

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        found = [[out.permute(0, 3, 1, 2) for out in self._run(level.permute(0, 2, 3, 1))] for level in features]
        return [logits for logits, _ in found], [deltas for _, deltas in found]
