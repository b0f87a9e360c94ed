"""The detector's heads as a teacher: how far are their answers to what was received from those to what was sent?"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from featlink.channel.reduction.basis import Basis
from featlink.channel.reduction.cells import SIDES
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.fast.prune import drop_dead_channels
from featlink.shared.models.torchvision_rcnn import build

_MASKS = 24
"""Regions whose masks are compared: they cost the most."""
_OBJECTNESS, _PROPOSALS, _MASK = 0.015, 0.05, 4.0
"""What the RPN's errors weigh, summed over all places and divided by the regions, and a mask's, against the rest."""


@dataclass(frozen=True)
class Answers:
    """What the heads say: class and mask as logits.

    Attributes:
        classes: (N, labels).
        boxes: (N, 4), offsets for the label that is asked for.
        masks: (M, 28, 28) for that label, M ≤ N; None for a network without masks.
        objects: by level, (1, A, H, W).
        proposals: by level, (1, 4·A, H, W).
    """

    classes: Tensor
    boxes: Tensor
    masks: Tensor | None
    objects: list[Tensor]
    proposals: list[Tensor]


class Teacher(nn.Module):
    """Heads that are not trained, but that errors pass through.

    Args:
        config: the network.
        basis: from components to its levels.
    """

    group: Tensor
    cell: Tensor

    def __init__(self, config: ModelConfig, basis: Basis) -> None:
        super().__init__()
        network: Any = build(ModelConfig(**{**vars(config), "profile": "exact", "device": "cpu"})).network
        drop_dead_channels(network)
        self.rpn, self.heads = network.rpn.head, network.roi_heads
        self.requires_grad_(False)
        self.widths = [len(basis.mean[name]) for name in SIDES]
        for name, array in {"group": basis.group, "cell": basis.cell}.items():
            self.register_buffer(name, torch.from_numpy(array))
        for i, name in enumerate(SIDES):
            self.register_buffer(f"inverse{i}", torch.from_numpy(basis.inverse[name] / basis.worth[name]))
            self.register_buffer(f"mean{i}", torch.from_numpy(basis.inverse[name] @ basis.mean[name]))

    def levels(self, components: Tensor) -> OrderedDict[str, Tensor]:
        """Components (K, h, w) to torchvision's levels, as :meth:`Basis.synthesise` has them."""
        count, h, w = components.shape
        groups = (self.group[:, :count] @ components.reshape(count, -1)).reshape(-1, 2, 2, h, w)
        cells = (self.cell @ groups.permute(0, 3, 1, 4, 2).reshape(len(groups), -1)).reshape(-1, 2 * h, 2 * w)
        found: OrderedDict[str, Tensor] = OrderedDict()
        at = 0
        for i, (side, width) in enumerate(zip(SIDES.values(), self.widths, strict=True)):
            part, at = cells[at : at + width * max(1, side**2)], at + width * max(1, side**2)
            if side:
                blocks = part.reshape(width, side, side, 2 * h, 2 * w).permute(0, 3, 1, 4, 2)
                level = blocks.reshape(width, 2 * h * side, 2 * w * side)
            else:
                level = part.reshape(width, h, 2, w, 2).sum((2, 4)) / 2
            inverse, mean = getattr(self, f"inverse{i}"), getattr(self, f"mean{i}")
            whole = (inverse @ level.reshape(width, -1)).reshape(-1, *level.shape[1:]) + mean[:, None, None]
            found[str(i)] = whole[None]
        found["pool"] = found["3"][:, :, ::2, ::2]
        return found

    def answers(self, components: Tensor, resized: tuple[int, int], boxes: Tensor, labels: Tensor) -> Answers:
        """What the heads say of regions, and the RPN of all places."""
        levels, heads = self.levels(components), self.heads
        rows = torch.arange(len(boxes), device=boxes.device)
        objects, proposals = self.rpn(list(levels.values()))
        heads.box_roi_pool.scales = None
        classes, offsets = heads.box_predictor(heads.box_head(heads.box_roi_pool(levels, [boxes], [resized])))
        masks = None
        if heads.mask_head is not None:
            heads.mask_roi_pool.scales = None
            seen = heads.mask_roi_pool(levels, [boxes[:_MASKS]], [resized])
            masks = heads.mask_predictor(heads.mask_head(seen))[rows[:_MASKS], labels[:_MASKS]]
        return Answers(classes, offsets.reshape(len(boxes), -1, 4)[rows, labels], masks, objects, proposals)


def distance(given: Answers, clean: Answers) -> Tensor:
    """How far answers are from those to clean features: divergences of probabilities, and offsets where it matters.

    A scalar, 0 for equal answers.
    """
    probable = clean.classes.softmax(1)
    classes = functional.kl_div(given.classes.log_softmax(1), probable, reduction="batchmean")
    object_ = 1 - probable[:, 0]
    boxes = functional.smooth_l1_loss(given.boxes, clean.boxes, beta=0.5, reduction="none").sum(1) @ object_
    total = classes + boxes / len(object_)
    if given.masks is not None and clean.masks is not None:
        masks = _divergence(given.masks, clean.masks).mean((1, 2)) @ object_[: len(given.masks)]
        total = total + _MASK * masks / len(given.masks)
    regions = len(object_) / 2
    for got, wanted, moved, expected in zip(
        given.objects, clean.objects, given.proposals, clean.proposals, strict=True
    ):
        total = total + _OBJECTNESS * _divergence(got, wanted).sum() / regions
        errors = functional.smooth_l1_loss(moved, expected, beta=0.3, reduction="none")[0]
        errors = errors.reshape(-1, 4, *errors.shape[1:]).sum(1)
        total = total + _PROPOSALS * (wanted[0].sigmoid() * errors).sum() / regions
    return total


def _divergence(given: Tensor, clean: Tensor) -> Tensor:
    """Of two-way probabilities, from logits."""
    wanted = clean.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(given, wanted, reduction="none")
    return cross - functional.binary_cross_entropy_with_logits(clean, wanted, reduction="none")
