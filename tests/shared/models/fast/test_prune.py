"""Channels that are always zero go, and nothing else changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from featlink.shared.models.config import ModelConfig
from featlink.shared.models.fast.prune import drop_dead_channels
from featlink.shared.models.torchvision_rcnn import build

pytestmark = pytest.mark.slow  # of the real networks

MODELS = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn")


def stock(name: str) -> Any:
    """Random weights, and batch norms that add something."""
    torch.manual_seed(3)
    network = get_model(name, weights=None, weights_backbone=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.normal_(module.bias, std=0.1)
    return network


def silence(layer: Any, norm: Any, dead: torch.Tensor) -> None:
    layer.weight[dead] = 0
    for vector in (layer.bias, *([] if norm is None else [norm.bias, norm.running_mean])):
        if vector is not None:
            vector[dead] = 0


def pairs(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Convolutions and matrices, each with the batch norm behind it."""
    leaves = [one for one in module.modules() if isinstance(one, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    for one, following in zip(leaves, [*leaves[1:], None], strict=True):
        if not isinstance(one, nn.BatchNorm2d):
            yield one, following if isinstance(following, nn.BatchNorm2d) else None


@torch.no_grad()
def thinned(network: Any) -> Any:
    """Two thirds of the channels silenced wherever they can be, and one block of a stage."""
    network = copy.deepcopy(network)
    body, fpn = network.backbone.body, network.backbone.fpn
    silence(body.conv1, body.bn1, torch.arange(64) % 3 > 0)
    for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
        dead = torch.arange(stage[0].conv3.out_channels) % 3 > 0
        silence(*stage[0].downsample, dead)
        for block in stage:
            silence(block.conv1, block.bn1, torch.arange(block.conv1.out_channels) % 3 > 0)
            silence(block.conv2, block.bn2, torch.arange(block.conv2.out_channels) % 3 > 1)
            silence(block.conv3, block.bn3, dead)
    silence(body.layer3[2].conv3, body.layer3[2].bn3, torch.ones(1024, dtype=torch.bool))
    for block in fpn.inner_blocks:
        [(layer, norm)] = pairs(block)
        silence(layer, norm, torch.arange(256) % 3 > 0)
    heads = network.roi_heads
    hidden = [network.rpn.head.conv, heads.box_head, *([heads.mask_head] if heads.mask_head is not None else [])]
    for layer, norm in (pair for module in hidden for pair in pairs(module)):
        silence(layer, norm, torch.arange(len(layer.weight)) % 3 > 0)
    return network


@torch.inference_mode()
def outputs(network: Any) -> list[torch.Tensor]:
    """Of every part, the heads on the same regions."""
    torch.manual_seed(5)
    levels = network.backbone(torch.randn(1, 3, 64, 96))
    found = [*levels.values()]
    for part in network.rpn.head(list(levels.values())):
        found += part
    heads = network.roi_heads
    found += heads.box_predictor(heads.box_head(torch.randn(3, 256, 7, 7)))
    if heads.mask_head is not None:
        found.append(heads.mask_predictor(heads.mask_head(torch.randn(2, 256, 14, 14))))
    return found


def size(network: nn.Module) -> int:
    return sum(value.numel() for value in network.state_dict().values())


@pytest.mark.parametrize("name", [MODELS[0], *(pytest.param(name, marks=pytest.mark.extended) for name in MODELS[1:])])
def test_a_thinned_network_shrinks_and_computes_the_same(name: str) -> None:
    network = thinned(stock(name))
    pruned = copy.deepcopy(network)
    drop_dead_channels(pruned)
    assert size(pruned) < 0.3 * size(network)
    assert isinstance(pruned.backbone.body.layer3[2], nn.Identity)
    for before, after in zip(outputs(network), outputs(pruned), strict=True):
        assert before.std() > 0
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))


def test_a_dense_network_stays_as_it_is() -> None:
    network = stock(MODELS[0])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drop_dead_channels(network)
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@torch.no_grad()
def test_constant_channels_are_not_dead() -> None:
    network = stock(MODELS[0])
    body = network.backbone.body
    silence(body.conv1, body.bn1, torch.arange(64) < 2)
    body.bn1.bias[0] = 0.5  # a ReLU lets it pass
    body.bn1.bias[1] = -0.5  # and not this one
    expected = outputs(network)
    drop_dead_channels(network)
    assert body.conv1.weight.shape[0] == 63
    for before, after in zip(expected, outputs(network), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * float(before.abs().max()))


@torch.no_grad()
def test_a_silent_network_keeps_a_channel_everywhere() -> None:
    network = stock(MODELS[0])
    for value in network.parameters():
        value.zero_()
    drop_dead_channels(network)
    assert network.roi_heads.box_head.fc7.weight.shape == (1, 1)
    assert all(not output.any() for output in outputs(network))


@pytest.mark.slow
def test_the_fast_profile_drops_the_bundled_weights_padding() -> None:
    heads = build(ModelConfig(weights="starter", threads=1)).network.roi_heads
    assert heads.box_predictor.cls_score.weight.shape == (91, 128)
    exact = build(ModelConfig(weights="starter", profile="exact")).network.roi_heads
    assert exact.box_predictor.cls_score.weight.shape == (91, 1024)
