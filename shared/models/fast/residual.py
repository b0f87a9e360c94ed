"""ResNet-50 and FPN's lateral layers at full width, in channels-last memory from the picture to the merged levels.

oneDNN, inside torch, adds the shortcut and takes the ReLU while it writes a convolution's result. Wide 3×3
convolutions of stride 1 are Winograd's. As all of it keeps one layout, nothing is copied between the two, nor for the
FPN's output layers behind it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck

from featlink.shared.models.fast.winograd import WinogradConv

_NARROWEST = 64
"""Channels of the first stage's 3×3 convolutions; with fewer, weights were pruned, and a compiled graph is faster."""

_WORTH_WINOGRAD = 128
"""Channels; with fewer, the transforms take as long as the multiplications that they save."""


class FusedConv(nn.Module):
    """A convolution with what follows it, by the operators of oneDNN that torch's own compiler emits.

    Args:
        conv: gives the weights.
        norm: batch norm in eval mode, if any; becomes part of them.
        relu: whether negative outputs become 0.

    Example:
        >>> conv = nn.Conv2d(8, 16, 1)
        >>> x = torch.randn(1, 8, 10, 7)
        >>> torch.allclose(FusedConv(conv, relu=True)(x), conv(x).relu(), atol=1e-5)
        True
    """

    def __init__(self, conv: nn.Conv2d, norm: Any = None, relu: bool = False) -> None:
        super().__init__()
        conv = conv if norm is None else fuse_conv_bn_eval(conv, norm)
        self._weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._place = conv.padding, conv.stride, conv.dilation, conv.groups
        self._relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W) float32 in channels-last memory; the result is in it too."""
        after = "relu" if self._relu else "none"
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self._weight, self._bias, *self._place, after, [], "")
        return out

    def onto(self, x: Tensor, other: Tensor) -> Tensor:
        """Convolve, and add the result to ``other`` in place, before the ReLU."""
        after = "relu" if self._relu else None
        out: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            other, x, self._weight, self._bias, *self._place, "add", 1.0, after, [], ""
        )
        return out


class ResidualBackbone(nn.Module):
    """A backbone up to the FPN's output layers.

    Args:
        backbone: torchvision's ResNet-50 with FPN, in eval mode; :func:`is_wide`.
        threads: of :class:`WinogradConv`.
    """

    def __init__(self, backbone: Any, threads: int) -> None:
        super().__init__()
        body = backbone.body
        self._first, self._pool = FusedConv(body.conv1, body.bn1, relu=True), body.maxpool
        stages = [body.layer1, body.layer2, body.layer3, body.layer4]
        self._stages = [
            [_Block(block, threads) for block in stage if not isinstance(block, nn.Identity)] for stage in stages
        ]
        self._laterals = [FusedConv(*_conv_and_norm(block)) for block in backbone.fpn.inner_blocks]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The merged levels p2 to p5.

        Args:
            x: float32 (1, 3, H, W).

        Returns:
            float32 (1, C, h, w) in channels-last memory.
        """
        x = self._pool(self._first(x.contiguous(memory_format=torch.channels_last)))
        stages: list[Tensor] = []
        for stage in self._stages:
            for block in stage:
                x = block(x)
            stages.append(x)
        *lower, highest = zip(self._laterals, stages, strict=True)
        lateral, x = highest
        levels = [lateral(x)]
        for lateral, x in reversed(lower):
            levels.insert(0, lateral.onto(x, F.interpolate(levels[0], size=x.shape[-2:])))
        return levels


class _Block(nn.Module):
    """A bottleneck. One without a shortcut of its own writes its result over its input."""

    def __init__(self, block: Bottleneck, threads: int) -> None:
        super().__init__()
        self._narrow = FusedConv(block.conv1, block.bn1, relu=True)
        wide = block.conv2.stride == (1, 1) and block.conv2.in_channels >= _WORTH_WINOGRAD
        self._middle: nn.Module = (
            WinogradConv(fuse_conv_bn_eval(block.conv2, block.bn2), relu=True, threads=threads)
            if wide
            else FusedConv(block.conv2, block.bn2, relu=True)
        )
        self._widen = FusedConv(block.conv3, block.bn3, relu=True)
        self._shortcut = nn.Identity() if block.downsample is None else FusedConv(*block.downsample)

    def forward(self, x: Tensor) -> Tensor:
        inner = self._middle(self._narrow(x))
        return self._widen.onto(inner, self._shortcut(x))


def _conv_and_norm(module: nn.Module) -> tuple[Any, Any]:
    """A module's convolution, and its batch norm or None."""
    conv, *norm = (one for one in module.modules() if not any(one.children()))
    return conv, norm[0] if norm else None


def is_wide(backbone: Any) -> bool:
    """Whether :class:`ResidualBackbone` is the faster way: no block that is left was narrowed, and torch has oneDNN."""
    blocks = [block for name, stage in backbone.body.named_children() if name.startswith("layer") for block in stage]
    full = all(isinstance(block, nn.Identity) or block.conv2.out_channels >= _NARROWEST for block in blocks)
    return full and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
