"""The training's RoIAlign against torchvision's: values and gradients."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from training.gather_roi_align import GatherRoIAlign


@pytest.mark.parametrize("size", [7, 14])
def test_values_and_gradients_are_torchvisions(size: int) -> None:
    torch.manual_seed(size)
    shapes = [(256, 320)] * 2
    boxes = []
    for _ in shapes:
        centre, sides = torch.rand(40, 2) * torch.tensor([320.0, 256.0]), torch.rand(40, 2) ** 2 * 300 + 2
        corners = torch.cat([centre - sides / 2, centre + sides / 2], 1)
        boxes.append(corners.clamp(min=0).minimum(torch.tensor([320.0, 256, 320, 256])))
    boxes[1] = boxes[1][:0]
    results = []
    for pool in (MultiScaleRoIAlign(["0", "1", "2", "3"], size, 2), GatherRoIAlign(size)):
        torch.manual_seed(1)
        features = {str(i): torch.randn(2, 8, 64 >> i, 80 >> i, requires_grad=True) for i in range(4)}
        pooled = pool(features, boxes, shapes)
        (pooled * torch.randn(pooled.shape)).sum().backward()
        results.append([pooled, *(level.grad for level in features.values())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def test_no_boxes_give_no_regions() -> None:
    features = {str(i): torch.randn(1, 8, 16 >> i, 16 >> i, requires_grad=True) for i in range(4)}
    pooled = GatherRoIAlign(7)(features, [torch.zeros(0, 4)], [(64, 64)])
    assert pooled.shape == (0, 8, 7, 7)
    pooled.sum().backward()
