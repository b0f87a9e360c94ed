"""What a file beside the weights says of them, against torchvision told the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import get_model
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.transforms.functional import to_tensor

from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import build

pytestmark = pytest.mark.slow  # of the real networks

MODEL = "fasterrcnn_resnet50_fpn"
SIZES = ((16,), (24,), (48,), (96,), (192,))
SAID: dict[str, Any] = {
    "image_mean": [0.3, 0.4, 0.5],
    "image_std": [0.2, 0.3, 0.25],
    "anchor_sizes": SIZES,
    "aspect_ratios": [0.5, 2.0],
    "box_nms_thresh": 0.9,
    "rpn_nms_thresh": 0.6,
    "min_size": 96,
    "max_size": 128,
    "categories": ["background", "cat", "dog"],
}


@pytest.fixture(scope="module")
def stock() -> Any:
    torch.manual_seed(3)
    told = {name: SAID[name] for name in SAID if name not in ("anchor_sizes", "aspect_ratios", "categories")}
    anchors = AnchorGenerator(SIZES, ((0.5, 2.0),) * 5)
    return get_model(
        MODEL,
        weights=None,
        weights_backbone=None,
        num_classes=3,
        rpn_anchor_generator=anchors,
        box_detections_per_img=20,
        rpn_post_nms_top_n_test=50,
        **told,
    ).eval()


def test_it_is_the_network_that_was_trained(stock: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(stock.state_dict(), path)
    config = ModelConfig(model=MODEL, weights=str(path), profile="exact", max_detections=20, proposals=50)
    with pytest.raises(ModelError, match="other anchors"):
        build(config)
    beside = tmp_path / "mine.pth.json"
    beside.write_text(json.dumps(SAID))
    model = build(config)
    assert model.categories == SAID["categories"]
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    with torch.inference_mode():
        [expected] = stock([to_tensor(image)])
    detections = model.decode(model.encode(image))
    assert len(detections)
    np.testing.assert_array_equal(detections.boxes, expected["boxes"].numpy())
    np.testing.assert_array_equal(detections.scores, expected["scores"].numpy())
    beside.write_text(json.dumps({**SAID, "box_nms_thresh": 0.5}))
    assert build(config).weights != model.weights


@pytest.mark.parametrize(
    "said", [{"image_std": [1, 1, 0]}, {"anchors": 1}, {"anchor_sizes": [[16]]}, {"categories": ["one"]}, []]
)
def test_what_says_nonsense_is_refused(stock: Any, tmp_path: Path, said: Any) -> None:
    path = tmp_path / "mine.pth"
    torch.save(stock.state_dict(), path)
    (tmp_path / "mine.pth.json").write_text(json.dumps(SAID | said if said else said))
    with pytest.raises(ModelError):
        build(ModelConfig(model=MODEL, weights=str(path), profile="exact"))
