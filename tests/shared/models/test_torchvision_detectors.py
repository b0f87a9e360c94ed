"""torchvision's one-stage detectors and Keypoint R-CNN: split, they are torchvision's bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import get_model
from torchvision.transforms.functional import to_tensor

from featlink.shared.conditions.language import parse
from featlink.shared.errors import ImageError, ModelError
from featlink.shared.models.config import DETECTORS, ModelConfig
from featlink.shared.models.registry import build

pytestmark = pytest.mark.slow  # of the real networks

QUICK = "ssdlite320_mobilenet_v3_large"
SIZES = {"min_size": 96, "max_size": 160}
PICTURES = [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in ((97, 131), (131, 60))]


def checkpoint(name: str, folder: Path) -> Path:
    path = folder / f"{name}.pth"
    if not path.exists():
        torch.manual_seed(3)
        torch.save(get_model(name, weights=None, weights_backbone=None).state_dict(), path)
    return path


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.extended) for name in DETECTORS]
)
def test_split_detections_are_torchvisions_bit_for_bit(name: str, tmp_path: Path) -> None:
    path = checkpoint(name, tmp_path)
    sizes: dict[str, Any] = {} if "ssd" in name else SIZES
    model = build(ModelConfig(model=name, weights=str(path), score_threshold=0.0, **sizes))
    edge = build(ModelConfig(model=name, weights=str(path), **sizes), heads=False)
    stock = get_model(
        name,
        weights=None,
        weights_backbone=None,
        **sizes,
        **{"box_score_thresh" if "rcnn" in name else "score_thresh": 0.0},
    )
    stock.load_state_dict(torch.load(path))
    features = [edge.encode(picture) for picture in PICTURES]
    for picture, sent in reversed(list(zip(PICTURES, features, strict=True))):  # nothing is kept of a picture
        assert {key: level.shape for key, level in sent.levels.items()} == model.spec.shapes(sent.sizes.padded)
        assert model.image_sizes(*picture.shape[:2]) == sent.sizes
        with torch.inference_mode():
            [expected] = stock.eval()([to_tensor(picture)])
        found, order = model.decode(sent), np.argsort(-expected["scores"].numpy(), kind="stable")
        assert len(found) > 5
        for key, array in (("boxes", found.boxes), ("scores", found.scores), ("labels", found.labels)):
            np.testing.assert_array_equal(array, expected[key].numpy()[order], err_msg=key)
        assert found.masks is None
        assert (found.keypoints is not None) == ("keypoints" in expected)
        if found.keypoints is not None:
            np.testing.assert_array_equal(found.keypoints, expected["keypoints"].numpy()[order])
    with pytest.raises(ModelError, match="without its heads"):
        edge.decode(features[0])
    if sizes:
        with pytest.raises(ImageError, match="too narrow"):
            edge.image_sizes(2, 5000)


def test_a_detector_goes_through_the_link(tmp_path: Path) -> None:
    import cv2

    from featlink.channel.transmit import transmit
    from featlink.cloud.finish import finish
    from featlink.edge.prepare import Request, prepare
    from featlink.shared.result import Telemetry

    name = QUICK
    model = build(ModelConfig(model=name, weights=str(checkpoint(name, tmp_path)), score_threshold=0.0))
    data = cv2.imencode(".png", PICTURES[0])[1].tobytes()
    for text in ("quantize(bits=4) | entropy", "image: gaussian_blur(sigma=2)", "hevc(qp=30)"):
        condition = parse(text)
        frame = prepare(model, Request(data, condition.domain, condition), max_pixels=10**6).frame
        sent = transmit(frame, condition, Telemetry())
        found, _ = finish(model, sent.frame, sent.telemetry)
        assert found
        assert "segmentation" not in found[0]


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights of fcos_resnet50_fpn are bundled"):
        build(ModelConfig(model="fcos_resnet50_fpn"))
    path = checkpoint(QUICK, tmp_path)
    with pytest.raises(ModelError, match="cannot be cut at 'c2'"):
        build(ModelConfig(model=QUICK, weights=str(path), split="c2"))
    with pytest.raises(ModelError, match="no bf16"):
        build(ModelConfig(model=QUICK, weights=str(path), profile="bf16"))
    with pytest.raises(ModelError, match="do not fit"):
        build(ModelConfig(model="fcos_resnet50_fpn", weights=str(path)))
    path.with_name(f"{path.name}.json").write_text('{"categories": ["background", "cat"]}')
    with pytest.raises(ModelError, match="has shape"):
        build(ModelConfig(model=QUICK, weights=str(path)))
