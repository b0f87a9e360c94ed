"""R-CNNs of detectron2 against what detectron2 itself recorded: levels, proposals' outcome, detections and masks."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from torchvision.models import get_model

from featlink.shared.errors import ModelError
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detectron2_rcnn import AlignedPool, build, converted
from featlink.shared.models.registry import build as build_any

pytestmark = pytest.mark.slow  # of the real networks

SIZES: dict[str, dict[str, Any]] = {
    str(side): {"min_size": side, "max_size": most} for side, most in ((128, 256), (480, 640), (800, 1333))
}
FILES = {
    "mask_stride3x3": "mask_rcnn_R_50_FPN.pkl",
    "mask_stride1x1": "mask_rcnn_R_50_FPN.pth",
    "faster_stride3x3": "faster_rcnn_R_50_FPN.pkl",
    "perclass_stride3x3": "mask_rcnn_R_50_FPN_per_class.pkl",
}
UNSURE = 0.051
"""Scores next to the threshold of 0.05 may fall on either side of it."""


@pytest.fixture(scope="module")
def checkpoints(detectron2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detectron2")
    with tarfile.open(detectron2 / "checkpoints" / "checkpoints.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for variant, name in FILES.items():
        (path,) = folder.rglob(name)
        target = folder / variant / name
        target.parent.mkdir()
        path.rename(target)
        if "3x3" in variant:
            target.with_name(f"{name}.json").write_text(json.dumps({"stride_in_1x1": False}))
    return folder


@pytest.mark.extended  # the archive takes 256 MB and some seconds to unpack
@pytest.mark.parametrize("profile", ["exact", "fast"])
@pytest.mark.parametrize("variant", FILES)
def test_levels_and_detections_are_those_recorded(
    variant: str, profile: Any, detectron2: Path, checkpoints: Path
) -> None:
    sizes = [size for size in SIZES if profile == "fast" or size != "800"]
    recorded = {size: sorted((detectron2 / "reference").glob(f"{variant}_{size}_*.npz")) for size in sizes}
    assert any(recorded.values())
    for size, files in recorded.items():
        if not files:
            continue
        weights = str(checkpoints / variant / FILES[variant])
        model = build(ModelConfig(model="detectron2_r50_fpn", weights=weights, profile=profile, **SIZES[size]))
        for file in files:
            with np.load(file, allow_pickle=False) as reference:
                name = file.stem.partition(f"_{size}_")[2]
                picture = np.array(Image.open(detectron2 / "pictures" / f"{name}.png").convert("RGB"))
                compare(model, picture, reference, file.name)


def compare(model: Any, picture: np.ndarray[Any, Any], reference: Any, name: str) -> None:
    features = model.encode(picture)
    assert features.sizes.resized == tuple(reference["resized_size"])
    assert features.sizes.padded == tuple(reference["padded_size"])
    for level, values in features.levels.items():
        sampled = values.reshape(-1)[reference[f"{level}.index"]]
        np.testing.assert_allclose(sampled, reference[f"{level}.value"], atol=1e-4, err_msg=f"{name} {level}")
    found, expected = model.decode(features), int((reference["scores"] > UNSURE).sum())
    assert int((found.scores > UNSURE).sum()) == expected > 5, name
    np.testing.assert_array_equal(found.labels[:expected], reference["category_ids"][:expected], err_msg=name)
    np.testing.assert_allclose(found.boxes[:expected], reference["boxes"][:expected], atol=0.02, err_msg=name)
    np.testing.assert_allclose(found.scores[:expected], reference["scores"][:expected], atol=1e-4, err_msg=name)
    if "mask_rle" in reference:
        size = [int(side) for side in reference["original_size"]]
        for detection, counts in zip(to_coco(found, 1)[:expected], reference["mask_rle"], strict=False):
            mine, theirs = detection["segmentation"], {"size": size, "counts": str(counts).encode()}
            coded = {"size": mine["size"], "counts": str(mine["counts"]).encode()}
            empty = not (rle.area(theirs) or rle.area(coded))
            assert empty or rle.iou([coded], [theirs], [0])[0, 0] > 0.999, name


@pytest.mark.extended
def test_a_wrong_stride_does_not_go_unnoticed(detectron2: Path, checkpoints: Path) -> None:
    weights = checkpoints / "mask_stride1x1" / FILES["mask_stride1x1"]
    other = checkpoints / "other.pth"
    shutil.copy(weights, other)
    other.with_name("other.pth.json").write_text('{"stride_in_1x1": false}')
    picture = np.array(Image.open(detectron2 / "pictures" / "scene_40.png").convert("RGB"))
    one, two = (
        build(ModelConfig(model="detectron2_r50_fpn", weights=str(path), profile="exact", min_size=128, max_size=256))
        for path in (weights, other)
    )
    assert one.weights != two.weights
    assert np.abs(one.encode(picture).levels["p2"] - two.encode(picture).levels["p2"]).max() > 0.1


def detectron2_state(masks: bool = True, classes: int = 80) -> dict[str, torch.Tensor]:
    """A random checkpoint in detectron2's layout, from torchvision's network."""
    torch.manual_seed(3)
    name = "maskrcnn_resnet50_fpn" if masks else "fasterrcnn_resnet50_fpn"
    theirs = get_model(name, weights=None, weights_backbone=None, num_classes=classes + 1).state_dict()
    state = {
        "pixel_mean": torch.zeros(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
    }
    for key, value in theirs.items():
        if key.endswith("num_batches_tracked"):
            continue
        new = key.replace("backbone.body.conv1.", "backbone.bottom_up.stem.conv1.")
        new = new.replace("backbone.body.bn1.", "backbone.bottom_up.stem.conv1.norm.")
        for stage in range(1, 5):
            new = new.replace(f"backbone.body.layer{stage}.", f"backbone.bottom_up.res{stage + 1}.")
            new = new.replace(f"fpn.inner_blocks.{stage - 1}.0.", f"fpn_lateral{stage + 1}.")
            new = new.replace(f"fpn.layer_blocks.{stage - 1}.0.", f"fpn_output{stage + 1}.")
            new = new.replace(f"mask_head.{stage - 1}.0.", f"mask_head.mask_fcn{stage}.")
            new = new.replace(f".bn{stage}.", f".conv{stage}.norm.")
        new = new.replace(".downsample.0.", ".shortcut.").replace(".downsample.1.", ".shortcut.norm.")
        new = new.replace("rpn.head.conv.0.0.", "proposal_generator.rpn_head.conv.")
        new = new.replace("rpn.head.cls_logits.", "proposal_generator.rpn_head.objectness_logits.")
        new = new.replace("rpn.head.bbox_pred.", "proposal_generator.rpn_head.anchor_deltas.")
        new = new.replace("box_head.fc6.", "box_head.fc1.").replace("box_head.fc7.", "box_head.fc2.")
        new = new.replace("mask_predictor.conv5_mask.", "mask_head.deconv.")
        new = new.replace("mask_predictor.mask_fcn_logits.", "mask_head.predictor.")
        if key == "backbone.body.conv1.weight":
            value = value / 58  # pixels are 0..255 here
        elif "cls_score" in key:
            value = torch.cat([value[1:], value[:1]])
        elif "bbox_pred" in key and "roi_heads" in key:
            value = value[4:]
        elif "mask_fcn_logits" in key:
            value = value[1:]
        state[new] = value
    return state


def test_a_training_run_is_read_cut_and_detects_coco_classes(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    torch.save({"model": detectron2_state(), "optimizer": {"state": {}}, "iteration": 9}, path)
    some: dict[str, Any] = {
        "min_size": 64,
        "max_size": 96,
        "proposals": 30,
        "max_detections": 8,
        "score_threshold": 0.0,
    }
    picture = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    whole = build_any(ModelConfig(model="detectron2_r50_fpn", weights=str(path), profile="exact", **some))
    assert whole.image_sizes(50, 80).resized == (60, 96)
    found = whole.decode(whole.encode(picture))
    assert len(found) == 8
    assert {found.categories[label] for label in found.labels} & {"N/A", "__background__"} == set()
    assert found.masks is not None
    assert found.masks[0].shape == (50, 80)
    cut = build_any(ModelConfig(model="detectron2_r50_fpn", weights=str(path), profile="exact", split="c2", **some))
    assert cut.name == "detectron2_r50_fpn@c2"
    again = cut.decode(cut.encode(picture))
    np.testing.assert_array_equal(again.boxes, found.boxes)
    np.testing.assert_array_equal(again.masks, found.masks)


def test_own_classes_have_numbers_or_names_of_the_file_beside(tmp_path: Path) -> None:
    state = detectron2_state(masks=False, classes=3)
    torch.save(state, path := tmp_path / "own.pth")
    config = ModelConfig(
        model="detectron2_r50_fpn", weights=str(path), profile="exact", min_size=64, max_size=96, score_threshold=0.0
    )
    assert build(config).categories == ["0", "1", "2", "3"]
    (tmp_path / "own.pth.json").write_text(
        '{"categories": ["background", "cat", "dog", "cow"], "stride_in_1x1": false}'
    )
    model = build(config)
    assert model.categories[2] == "dog"
    found = model.decode(model.encode(np.zeros((40, 40, 3), np.uint8)))
    assert found.masks is None
    assert set(found.labels) <= {1, 2, 3}


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="fetch detectron2-r50-3x"):
        build(ModelConfig(model="detectron2_r50_fpn"))
    with pytest.raises(ModelError, match="not those of an R-CNN of detectron2"):
        converted({"backbone.res2.0.conv1.weight": torch.zeros(1)})
    state = detectron2_state(masks=False, classes=3)
    torch.save(state, path := tmp_path / "own.pth")
    with pytest.raises(ModelError, match="--model detectron2_r50_fpn"):
        build_any(ModelConfig(model="fasterrcnn_resnet50_fpn", weights=str(path), profile="exact"))
    del state["backbone.bottom_up.res4.2.conv2.weight"]
    torch.save(state, path)
    with pytest.raises(ModelError, match=r"no backbone\.body\.layer3\.2\.conv2\.weight"):
        build(ModelConfig(model="detectron2_r50_fpn", weights=str(path), profile="exact"))


def test_aligned_pooling_samples_pixel_centres() -> None:
    """Of a ramp, each bin's mean is the ramp at the bin's centre, half a pixel less than the coordinate."""
    ramp = torch.arange(64.0).expand(1, 1, 64, 64)
    levels = {name: ramp[..., :: 1 << place] / (1 << place) for place, name in enumerate(("0", "1", "2", "3"))}
    box = torch.tensor([[40.0, 40.0, 96.0, 96.0]])
    pooled = AlignedPool(7)(levels, [box], [(256, 256)])
    centres = (box[0, 0] + (torch.arange(7) + 0.5) * 8) / 4 - 0.5
    torch.testing.assert_close(pooled[0, 0], centres.expand(7, 7))
    assert AlignedPool(7)(levels, [torch.zeros(0, 4)], [(256, 256)]).shape == (0, 1, 7, 7)
