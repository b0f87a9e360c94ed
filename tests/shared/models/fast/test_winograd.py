"""Winograd's convolution against torch's direct one in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.misc import FrozenBatchNorm2d

from featlink.shared.models.fast.winograd import WinogradConv, winograd


def largest_error(fast: nn.Module, slow: nn.Module, x: torch.Tensor) -> float:
    with torch.inference_mode():
        expected = slow.double()(x.double())
        return float((fast(x) - expected).abs().max() / expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(1, 8, 1, 1), (1, 8, 4, 4), (1, 8, 5, 3), (2, 8, 14, 14), (0, 8, 14, 14), (1, 8, 70, 67)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_a_direct_convolution(shape: tuple[int, ...], layout: torch.memory_format, threads: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 24, 3, padding=1)
    fast = WinogradConv(conv, relu=False, threads=threads)
    x = torch.randn(shape).contiguous(memory_format=layout)
    assert fast(x).shape == (shape[0], 24, *shape[2:])
    if len(x):
        assert largest_error(fast, conv, x) < 2e-5


def test_stays_exact_over_the_channels_of_a_pyramid() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(256, 256, 3, padding=1)
    assert largest_error(WinogradConv(conv, relu=False, threads=1), conv, 30 * torch.randn(1, 256, 20, 24)) < 2e-5


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d, FrozenBatchNorm2d])
def test_a_stack_takes_norms_and_activations_along(norm: type[nn.Module] | None) -> None:
    torch.manual_seed(0)
    stack = nn.Sequential(
        Conv2dNormActivation(8, 16, 3, norm_layer=norm),
        Conv2dNormActivation(16, 4, 3, norm_layer=norm, activation_layer=None),
    ).eval()
    for layer in stack.modules():
        if norm is not None and isinstance(layer, norm):
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(layer, name).data.uniform_(0.5, 2)
    fast = winograd(stack, threads=2)
    assert len(fast) == 2
    x = torch.randn(1, 8, 13, 9)
    assert largest_error(fast, stack, x) < 2e-5
    assert float(fast(x).min()) < 0, "the last layer has no ReLU"


@pytest.mark.parametrize("changed", [{"stride": 2}, {"padding": 0}, {"dilation": 2}, {"groups": 2}])
def test_other_convolutions_are_refused(changed: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="plain"):
        WinogradConv(nn.Conv2d(8, 8, 3, **{"padding": 1, **changed}), relu=False, threads=1)  # type: ignore[arg-type]


def test_other_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="ReLU"):
        winograd(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid()), threads=1)


def test_an_output_is_not_overwritten_while_it_is_used() -> None:
    """Memory is used again, but only when nothing refers to it."""
    conv = WinogradConv(nn.Conv2d(8, 8, 3, padding=1), relu=False, threads=1)
    first = conv(torch.ones(1, 8, 20, 20))
    part = first[0, 0, :2]
    values = part.clone()
    del first
    for _ in range(3):
        conv(torch.zeros(1, 8, 20, 20))
    assert torch.equal(part, values)
