"""R-CNNs in mmdetection's layout. None of its own files was at hand: these are others' weights under its names."""

from __future__ import annotations

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model

from featlink.shared.errors import ModelError
from featlink.shared.models.checkpoints import read_checkpoint
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detectron2_rcnn import AlignedPool, converted
from featlink.shared.models.mmdet_rcnn import LAYOUT, Pool
from featlink.shared.models.registry import build

pytestmark = pytest.mark.slow  # of the real networks

PARTS = {
    "backbone.fpn.inner_blocks.{}.0.": "neck.lateral_convs.{}.conv.",
    "backbone.fpn.layer_blocks.{}.0.": "neck.fpn_convs.{}.conv.",
    "backbone.body.": "backbone.",
    "rpn.head.conv.0.0.": "rpn_head.rpn_conv.",
    "rpn.head.cls_logits.": "rpn_head.rpn_cls.",
    "rpn.head.bbox_pred.": "rpn_head.rpn_reg.",
    "roi_heads.box_head.fc6.": "roi_head.bbox_head.shared_fcs.0.",
    "roi_heads.box_head.fc7.": "roi_head.bbox_head.shared_fcs.1.",
    "roi_heads.box_predictor.cls_score.": "roi_head.bbox_head.fc_cls.",
    "roi_heads.box_predictor.bbox_pred.": "roi_head.bbox_head.fc_reg.",
    "roi_heads.mask_head.{}.0.": "roi_head.mask_head.convs.{}.conv.",
    "roi_heads.mask_predictor.conv5_mask.": "roi_head.mask_head.upsample.",
    "roi_heads.mask_predictor.mask_fcn_logits.": "roi_head.mask_head.conv_logits.",
}
"""torchvision's names to mmdetection's."""


def mmdet_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's weights under mmdetection's names, without a background but the last class of the scores."""
    known = {old.format(digit): new.format(digit) for old, new in PARTS.items() for digit in range(4)}
    renamed = {}
    for name, value in state.items():
        old = next(one for one in known if name.startswith(one))
        if "cls_score" in name:
            value = torch.cat([value[1:], value[:1]])
        elif "roi_heads.box_predictor.bbox_pred" in name:
            value = value[4:]
        elif "mask_fcn_logits" in name:
            value = value[1:]
        renamed[known[old] + name.removeprefix(old)] = value
    return renamed


@pytest.fixture(scope="module")
def torchvision_state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=81)
    state: dict[str, torch.Tensor] = network.state_dict()
    return state


def saved(state: dict[str, torch.Tensor], path: Path) -> ModelConfig:
    torch.save({"meta": {"mmdet_version": "3.3.0", "epoch": 12}, "state_dict": mmdet_state(state)}, path)
    return ModelConfig(
        model="mmdet_r50_fpn",
        weights=str(path),
        profile="exact",
        min_size=64,
        max_size=96,
        score_threshold=0.0,
        proposals=30,
        max_detections=8,
        device="cpu",
    )


def test_names_and_classes_come_back(torchvision_state: dict[str, torch.Tensor]) -> None:
    there = mmdet_state(torchvision_state)
    assert {"backbone.layer3.0.downsample.1.running_var", "roi_head.mask_head.convs.3.conv.bias"} < there.keys()
    back = converted(there, LAYOUT)
    assert back.keys() == {name for name in torchvision_state if not name.endswith("num_batches_tracked")}
    for name, value in back.items():
        of_background = {"bbox_pred": 4, "mask_fcn_logits": 1}.get(name.split(".")[-2], 0) if "roi_heads" in name else 0
        assert torch.equal(value[of_background:], torchvision_state[name][of_background:]), name


def test_it_takes_rgb_resized_by_opencv(torchvision_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """With torchvision's weights, its levels are torchvision's of the picture that OpenCV resizes."""
    config = saved(torchvision_state, tmp_path / "epoch_12.pth")
    model = build(config)
    picture = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    assert model.image_sizes(50, 80).resized == (60, 96)
    found = model.encode(picture)
    torch.save(torchvision_state, tmp_path / "torchvision.pth")
    weights = str(tmp_path / "torchvision.pth")
    other = build(config.but(model="maskrcnn_resnet50_fpn", weights=weights, min_size=60))
    resized = cv2.resize(picture, (96, 60), interpolation=cv2.INTER_LINEAR)
    for name, level in other.encode(resized).levels.items():
        np.testing.assert_allclose(found.levels[name], level, atol=1e-4 * np.ptp(level))
    detections = model.decode(found)
    assert len(detections) == 8
    assert detections.masks is not None
    assert detections.masks[0].shape == (50, 80)
    cut = build(config.but(split="c2"))
    np.testing.assert_array_equal(cut.decode(cut.encode(picture)).boxes, detections.boxes)
    with pytest.raises(ModelError, match="--model mmdet_r50_fpn"):
        build(config.but(model="maskrcnn_resnet50_fpn"))
    with pytest.raises(ModelError, match="not those of an R-CNN of mmdetection"):
        build(config.but(weights=weights))


def test_a_regions_level_has_mmdetections_margin() -> None:
    sides = torch.tensor([10.0, 111.99, 111.99997, 112.0, 224.0, 5000.0])
    assert Pool(7).levels(sides).tolist() == [0, 0, 1, 1, 2, 3]
    assert AlignedPool(7).levels(sides).tolist() == [0, 0, 0, 1, 2, 3]


@pytest.mark.extended  # the archive takes 256 MB and some seconds to unpack
def test_in_caffes_style_it_is_detectron2_behind_the_resize(detectron2: Path, tmp_path: Path) -> None:
    """Both libraries do the same with a picture that is resized, and what detectron2 makes of it was recorded."""
    with tarfile.open(detectron2 / "checkpoints" / "checkpoints.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    [path] = tmp_path.rglob("mask_rcnn_R_50_FPN.pth")
    state = converted(read_checkpoint(path).state)
    weights = saved(state, tmp_path / "caffe.pth").weights
    Path(f"{weights}.json").write_text('{"stride_in_1x1": true}')
    config = ModelConfig(model="mmdet_r50_fpn", weights=weights, profile="exact", device="cpu")
    model = build(config.but(min_size=480, max_size=640))
    for file in sorted((detectron2 / "reference").glob("mask_stride1x1_480_*.npz")):
        with np.load(file, allow_pickle=False) as reference:
            name = file.stem.partition("_480_")[2]
            picture = Image.open(detectron2 / "pictures" / f"{name}.png").convert("RGB")
            sizes = model.image_sizes(picture.height, picture.width)
            assert sizes.resized == tuple(reference["resized_size"])
            assert sizes.padded == tuple(reference["padded_size"])
            resized = np.array(picture.resize(sizes.resized[::-1], Image.Resampling.BILINEAR), np.float32)
            found = model.decode(model.encode_input(resized.transpose(2, 0, 1), sizes))
            expected = int((reference["scores"] > 0.051).sum())  # next to 0.05, rounding decides
            assert expected > 5
            np.testing.assert_array_equal(found.labels[:expected], reference["category_ids"][:expected])
            np.testing.assert_allclose(found.boxes[:expected], reference["boxes"][:expected], atol=0.02)
            np.testing.assert_allclose(found.scores[:expected], reference["scores"][:expected], atol=1e-4)
