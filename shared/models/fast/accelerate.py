"""The ``fast`` profile: the same network with other implementations of its expensive parts.

FPN, RPN and mask head spend almost all of their time in wide 3×3 convolutions, which Winograd's method computes; a
backbone of full width is oneDNN's and Winograd's (``residual``); the other layers are compiled
by OpenVINO, RoIAlign by Numba. What the weights leave at zero is left out before
(``prune``). All reorder float32 arithmetic; nothing is quantised. Against stock torchvision,
detections stay within 0.01 px and 1e-4 of score; tests hold it to that.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlink.shared.models.fast.graph import Graph
from featlink.shared.models.fast.masks import MaskBranch
from featlink.shared.models.fast.prune import drop_dead_channels
from featlink.shared.models.fast.regions import RegionHead
from featlink.shared.models.fast.residual import ResidualBackbone, is_wide
from featlink.shared.models.fast.roi_align import FastRoIAlign
from featlink.shared.models.fast.winograd import winograd

_LEVELS = ("0", "1", "2", "3")
"""torchvision's names of p2..p5."""


def accelerate(network: GeneralizedRCNN, threads: int) -> None:
    """Replace a network's expensive modules in place; masks become the work of ``network.mask_branch``.

    Args:
        network: a torchvision Faster or Mask R-CNN in eval mode, weights loaded.
        threads: CPU threads of one inference.
    """
    drop_dead_channels(network)
    channels = network.backbone.out_channels
    network.backbone = _Backbone(network.backbone, threads)
    if network.rpn is None:  # an edge: nothing behind the backbone
        return
    network.rpn.head = _RpnHead(network.rpn.head, threads)
    heads = network.roi_heads
    heads.box_roi_pool = FastRoIAlign.like(heads.box_roi_pool, threads)
    heads.box_head = RegionHead(heads.box_head, channels, heads.box_roi_pool.output_size, threads)
    if heads.mask_roi_pool is not None:
        pool = FastRoIAlign.like(heads.mask_roi_pool, threads)
        network.mask_branch = MaskBranch(pool, winograd(heads.mask_head, threads), heads.mask_predictor)
        heads.mask_roi_pool = heads.mask_head = heads.mask_predictor = None


class _FpnBeforeOutput(nn.Module):
    """A backbone whose FPN ends before its 3×3 convolutions; its levels are (1, H, W, C)."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        backbone.fpn.layer_blocks = nn.ModuleList(nn.Identity() for _ in backbone.fpn.layer_blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = self.backbone(x)
        return tuple(levels[name].permute(0, 2, 3, 1) for name in _LEVELS)


class _CompiledBackbone(nn.Module):
    """A backbone up to the FPN's output layers, as one graph."""

    def __init__(self, backbone: Any, threads: int) -> None:
        super().__init__()
        self._run = Graph(_FpnBeforeOutput(backbone), torch.zeros(1, 3, 64, 96), (1, 3, -1, -1), threads)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [level.permute(0, 3, 1, 2) for level in self._run(x)]


class _Backbone(nn.Module):
    def __init__(self, backbone: Any, threads: int) -> None:
        super().__init__()
        self.out_channels = backbone.out_channels
        self._convolutions = [winograd(block, threads) for block in backbone.fpn.layer_blocks]
        kind = ResidualBackbone if is_wide(backbone) else _CompiledBackbone
        self._merged = kind(backbone, threads)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        levels = OrderedDict(
            (name, convolution(level))
            for name, convolution, level in zip(_LEVELS, self._convolutions, self._merged(x), strict=True)
        )
        levels["pool"] = levels["3"][:, :, ::2, ::2]
        return levels


class _RpnHead(nn.Module):
    def __init__(self, head: Any, threads: int) -> None:
        super().__init__()
        self._convolutions = winograd(head.conv, threads)
        last = head.cls_logits, head.bbox_pred  # both of size 1×1: one matrix of channels-last rows
        with torch.no_grad():
            self._weight = torch.cat([layer.weight.flatten(1) for layer in last]).t().contiguous()
            self._bias = torch.cat([layer.bias for layer in last])
        self._anchors = head.cls_logits.out_channels

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        found = [self._level(level) for level in features]
        return [out[:, : self._anchors] for out in found], [out[:, self._anchors :] for out in found]

    def _level(self, level: Tensor) -> Tensor:
        """Logits and deltas of a level, (1, anchors + 4·anchors, H, W)."""
        hidden = self._convolutions(level).permute(0, 2, 3, 1)
        out = torch.addmm(self._bias, hidden.flatten(0, 2), self._weight)
        return out.view(*hidden.shape[:3], -1).permute(0, 3, 1, 2)
