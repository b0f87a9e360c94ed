"""The stock network embedded from a narrow one computes the same detections, and all its pyramid's channels vary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn

from training.embed import embed
from training.extract import extract
from training.narrow import Widths, narrow

CATEGORIES = [1, 17, 85]
SIZES = {"min_size": 96, "max_size": 128, "rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 60}


@pytest.fixture(scope="module")
def pair() -> tuple[MaskRCNN, MaskRCNN]:
    """A narrow network with random weights everywhere, and the stock one made of it."""
    torch.manual_seed(3)
    small = narrow(len(CATEGORIES) + 1, Widths(8, (8, 8, 16, 16), (1, 2, 1, 3), 24, 64, 8, 24, 16, 8), **SIZES).eval()
    for module in small.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.2)
    nn.init.normal_(small.roi_heads.box_predictor.cls_score.weight, 0, 2)
    full = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91, **SIZES).eval()
    full.load_state_dict(embed(small, CATEGORIES, torch.randn(2, 3, 96, 128), full.state_dict()))
    return small, full


@torch.inference_mode()
def detections(network: MaskRCNN) -> list[dict[str, Tensor]]:
    torch.manual_seed(4)
    found: list[dict[str, Tensor]] = network([torch.rand(3, 96, 120), torch.rand(3, 120, 90)])
    return found


@pytest.mark.slow
def test_detections_are_the_narrow_networks(pair: tuple[MaskRCNN, MaskRCNN]) -> None:
    for small, full in zip(*map(detections, pair), strict=True):
        assert len(small["boxes"]) > 10
        assert [CATEGORIES[label - 1] for label in small["labels"]] == full["labels"].tolist()
        torch.testing.assert_close(full["boxes"], small["boxes"], atol=1e-2, rtol=0)
        torch.testing.assert_close(full["scores"], small["scores"], atol=1e-4, rtol=0)
        torch.testing.assert_close(full["masks"], small["masks"], atol=1e-3, rtol=0)


@pytest.mark.slow
@torch.inference_mode()
def test_every_channel_of_every_level_varies_and_none_repeats_others(pair: tuple[MaskRCNN, MaskRCNN]) -> None:
    _, full = pair
    for level in list(full.backbone(torch.randn(1, 3, 256, 320)).values())[:4]:
        samples = level.permute(1, 0, 2, 3).flatten(1)
        deviations = samples.std(1)
        assert deviations.min() > 0.05 * deviations.mean()
        # 24 inner channels × 9 taps bound the rank, as do the pixels of the small levels.
        rank = torch.linalg.matrix_rank(samples - samples.mean(1, keepdim=True))
        assert rank > 0.6 * min(24 * 9, samples.shape[1])


def test_the_narrow_network_comes_back(pair: tuple[MaskRCNN, MaskRCNN]) -> None:
    small, full = (network.state_dict() for network in pair)
    back = extract(full, small, CATEGORIES)
    assert back.keys() == small.keys()
    for name, value in small.items():
        torch.testing.assert_close(back[name], value, atol=1e-6, rtol=1e-5, msg=name)
