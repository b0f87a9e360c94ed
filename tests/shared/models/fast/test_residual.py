"""A backbone of full width by fused convolutions against torchvision's own in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from featlink.shared.models.fast.residual import FusedConv, ResidualBackbone, is_wide


def random_backbone(build: Callable[..., Any]) -> Any:
    """Weights and batch norms of any value that keeps the activations in range."""
    torch.manual_seed(0)
    backbone = build(weights=None, weights_backbone=None).eval().backbone
    for module in backbone.modules():
        if hasattr(module, "running_var"):
            module.weight.data.uniform_(0.3, 0.7)
            module.bias.data.uniform_(-0.2, 0.2)
            module.running_mean.data.uniform_(-0.2, 0.2)
            module.running_var.data.uniform_(0.5, 2)
    return backbone


def merged(backbone: Any, x: torch.Tensor) -> list[torch.Tensor]:
    plain = copy.deepcopy(backbone).double()
    plain.fpn.layer_blocks = nn.ModuleList(nn.Identity() for _ in range(4))
    return list(plain(x.double()).values())[:4]


@pytest.mark.parametrize("build", [maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2])
@torch.inference_mode()
def test_equals_torchvision(build: Callable[..., Any]) -> None:
    backbone = random_backbone(build)
    fast = ResidualBackbone(backbone, threads=2)
    for size in [(64, 96), (160, 32), (32, 32)]:
        x = torch.randn(1, 3, *size)
        given = x.clone()
        levels = fast(x)
        assert torch.equal(x, given), "the picture is not written to"
        for level, expected in zip(levels, merged(backbone, x), strict=True):
            assert level.shape == expected.shape
            assert level.is_contiguous(memory_format=torch.channels_last)
            assert float((level - expected).abs().max() / expected.abs().max()) < 2e-5
        assert all(torch.equal(one, other) for one, other in zip(levels, fast(x), strict=True))


@torch.inference_mode()
def test_a_convolution_is_added_before_its_relu() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, stride=2, padding=1)
    x, other = torch.randn(1, 8, 11, 9), torch.randn(1, 16, 6, 5)
    for relu in (False, True):
        expected = conv(x) + other
        given = other.contiguous(memory_format=torch.channels_last)
        found = FusedConv(conv, relu=relu).onto(x.contiguous(memory_format=torch.channels_last), given)
        torch.testing.assert_close(found, expected.relu() if relu else expected)


def test_is_for_networks_of_full_width() -> None:
    backbone = random_backbone(maskrcnn_resnet50_fpn)
    assert is_wide(backbone)
    backbone.body.layer1[1] = nn.Identity()  # as pruning leaves a block that adds nothing
    assert is_wide(backbone)
    backbone.body.layer1[2].conv2.out_channels = 63
    assert not is_wide(backbone)
