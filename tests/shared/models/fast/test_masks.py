"""Masks of the labels alone against torchvision's predictor, which makes all classes' masks."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference

from featlink.shared.models.fast.regions import LabelledMasks


@pytest.mark.parametrize("count", [0, 1, 16, 37])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_equals_the_label_s_mask_of_torchvision(count: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    predictor = MaskRCNNPredictor(12, 8, 5).eval()
    regions, labels = torch.randn(count, 12, 6, 4), torch.randint(0, 5, (count,))
    with torch.inference_mode():
        torch.nn.init.normal_(predictor.mask_fcn_logits.bias)
        [expected] = maskrcnn_inference(predictor(regions), [labels])
        found = LabelledMasks(predictor, dtype)(regions.contiguous(memory_format=torch.channels_last), labels)
    assert found.shape == (count, 1, 12, 8)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
