"""Drop channels that are always zero, so that a network costs only what it uses.

Weights of a narrower network padded to torchvision's shapes, or of one whose channels were pruned, leave most of the
stock network's arithmetic to zeros. What a dead channel would have fed loses that input; results change by nothing but
the order of float32 sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops.misc import FrozenBatchNorm2d

from featlink.shared.fpn import PYRAMID, SPLITS


@torch.no_grad()
def drop_dead_channels(network: GeneralizedRCNN, split: str = PYRAMID) -> None:
    """Remove them in place; the pyramid and what crosses the link keep all of their channels.

    Args:
        network: a torchvision Faster or Mask R-CNN with a ResNet-FPN in eval mode, weights loaded.
        split: one of :data:`featlink.shared.fpn.SPLITS`.
    """
    _prune_backbone(network.backbone, SPLITS[split].names)
    if network.rpn is None:  # an edge: nothing behind the backbone
        return
    rpn, heads = network.rpn.head, network.roi_heads
    _prune_chain(_layers(rpn.conv), [rpn.cls_logits, rpn.bbox_pred])
    _prune_chain(_layers(heads.box_head), [heads.box_predictor.cls_score, heads.box_predictor.bbox_pred])
    if heads.mask_head is not None:
        *hidden, logits = _layers(heads.mask_head) + _layers(heads.mask_predictor)
        _prune_chain(hidden, [logits.module])


@dataclass
class _Layer:
    """A convolution or a matrix, with what follows it.

    Attributes:
        module: ``Conv2d``, ``ConvTranspose2d`` or ``Linear``.
        norm: batch norm in eval mode, if any.
        relu: whether negative outputs become 0.
    """

    module: Any
    norm: Any = None
    relu: bool = False

    def live(self) -> Tensor:
        """Which outputs may differ from 0: bool (outputs,)."""
        weight = self.module.weight
        if isinstance(self.module, nn.ConvTranspose2d):
            weight = weight.transpose(0, 1)
        used = weight.flatten(1).ne(0).any(1)
        constant = torch.zeros(len(weight)) if self.module.bias is None else self.module.bias
        if self.norm is not None:
            scale = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
            constant = (constant - self.norm.running_mean) * scale + self.norm.bias
        live: Tensor = used | (constant.gt(0) if self.relu else constant.ne(0))
        return live

    def keep_outputs(self, live: Tensor) -> None:
        """Leave the outputs that are True."""
        _keep(self.module, "weight", live, axis=1 if isinstance(self.module, nn.ConvTranspose2d) else 0)
        _keep(self.module, "bias", live)
        count = "out_features" if isinstance(self.module, nn.Linear) else "out_channels"
        setattr(self.module, count, int(live.sum()))
        if self.norm is not None:
            for name in ("weight", "bias", "running_mean", "running_var"):
                _keep(self.norm, name, live)
            self.norm.num_features = int(live.sum())


def _keep_inputs(module: Any, live: Tensor) -> None:
    """Leave the inputs that are True; a matrix behind a flattened map has several for each."""
    if isinstance(module, nn.Linear):
        live = live.repeat_interleave(module.in_features // len(live))
        module.in_features = int(live.sum())
    else:
        module.in_channels = int(live.sum())
    _keep(module, "weight", live, axis=0 if isinstance(module, nn.ConvTranspose2d) else 1)


def _keep(module: Any, name: str, live: Tensor, axis: int = 0) -> None:
    value = getattr(module, name)
    if value is None:
        return
    kept = value.index_select(axis, live.nonzero()[:, 0])
    setattr(module, name, nn.Parameter(kept, requires_grad=False) if isinstance(value, nn.Parameter) else kept)


def _at_least_one(live: Tensor) -> Tensor:
    """Layers without channels are not supported everywhere."""
    return live if live.any() else torch.arange(len(live)) == 0


def _layers(module: nn.Module) -> list[_Layer]:
    """The layers of a sequential module."""
    if isinstance(module, TwoMLPHead):  # its ReLUs are functions
        return [_Layer(module.fc6, relu=True), _Layer(module.fc7, relu=True)]
    layers: list[_Layer] = []
    for leaf in (one for one in module.modules() if not any(one.children())):
        if isinstance(leaf, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layers.append(_Layer(leaf))
        elif isinstance(leaf, nn.BatchNorm2d | FrozenBatchNorm2d):
            layers[-1].norm = leaf
        elif isinstance(leaf, nn.ReLU):
            layers[-1].relu = True
        elif not isinstance(leaf, nn.Flatten | nn.Identity):
            raise ValueError(f"not a layer that dead channels pass: {leaf}")
    return layers


def _prune_chain(layers: Sequence[_Layer], readers: Sequence[nn.Module]) -> None:
    """Prune what passes from each layer to the next, and from the last one to its readers."""
    for layer, following in zip(layers, [[one.module] for one in layers[1:]] + [readers], strict=True):
        live = _at_least_one(layer.live())
        layer.keep_outputs(live)
        for reader in following:
            _keep_inputs(reader, live)


def _prune_backbone(backbone: Any, sent: Sequence[str]) -> None:
    body, fpn = backbone.body, backbone.fpn
    stem = _Layer(body.conv1, body.bn1, relu=True)
    live = _at_least_one(stem.live() | ("stem" in sent))
    stem.keep_outputs(live)
    inner = [_layers(block)[0] for block in fpn.inner_blocks]
    stages = (body.layer1, body.layer2, body.layer3, body.layer4)
    for name, stage, lateral in zip(("c2", "c3", "c4", "c5"), stages, inner, strict=True):
        live = _prune_stage(stage, live, name in sent)
        _keep_inputs(lateral.module, live)
    # The levels are added up on the way down, so they keep the same channels.
    merged = _at_least_one(torch.stack([lateral.live() for lateral in inner]).any(0))
    for lateral, block in zip(inner, fpn.layer_blocks, strict=True):
        lateral.keep_outputs(merged)
        _keep_inputs(_layers(block)[0].module, merged)


def _prune_stage(stage: Any, read: Tensor, sent: bool) -> Tensor:
    """Prune one of ResNet's stages that reads the channels ``read`` of the one before; returns those it writes.

    One whose output is sent writes all.
    """
    sums = []
    for block in stage:
        first, second = _Layer(block.conv1, block.bn1, relu=True), _Layer(block.conv2, block.bn2, relu=True)
        _prune_chain([first, second], [block.conv3])
        sums.append(_Layer(block.conv3, block.bn3))
    shortcut = _Layer(*stage[0].downsample)
    # Blocks add to the same channels, each after a ReLU, so what none of them writes stays 0.
    adds = [one.live() for one in sums]
    written = _at_least_one(torch.stack([shortcut.live(), *adds]).any(0) | sent)
    for one in (shortcut, *sums):
        one.keep_outputs(written)
    for reader in (stage[0].downsample[0], stage[0].conv1):
        _keep_inputs(reader, read)
    for number in range(1, len(stage)):
        if adds[number].any():
            _keep_inputs(stage[number].conv1, written)
        else:
            stage[number] = nn.Identity()
    return written
