"""Both profiles on a trained detector against stock torchvision: exact bit for bit, fast within its bounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_wire import over_the_wire
from PIL import Image
from torchvision.models import get_model
from torchvision.transforms.functional import to_tensor

from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco_metrics import evaluate
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build
from featlink.starter.bundle import SCENES, load_weights

THRESHOLD = 0.05
"""torchvision's: what scores near it may fall on either side."""


@dataclass(frozen=True)
class Trained:
    """A trained detector three times over, and pictures with their ground truth."""

    stock: torch.nn.Module
    models: dict[str, TorchvisionRCNN]
    truth: coco.GroundTruth
    pictures: dict[int, np.ndarray[Any, Any]]


def _stock(state: dict[str, torch.Tensor], **sizes: int) -> torch.nn.Module:
    network: torch.nn.Module = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, **sizes)
    network.load_state_dict(state)
    return network.eval()


def _load(weights: str, state: dict[str, torch.Tensor], annotations: Path, count: int, **sizes: int) -> Trained:
    profiles = ("exact", "fast")
    models = {profile: build(ModelConfig(weights=weights, profile=profile, **sizes)) for profile in profiles}  # type: ignore[arg-type]
    content = annotations.read_bytes()
    [folder] = (path for path in annotations.parents[1].iterdir() if path.name.startswith("val"))
    pictures = {
        entry["id"]: np.array(Image.open(folder / entry["file_name"]).convert("RGB"))
        for entry in json.loads(content)["images"][:count]
    }
    return Trained(_stock(state, **sizes), models, coco.parse(content), pictures)


def _bundled(count: int, **sizes: int) -> Trained:
    state = {name: torch.from_numpy(value) for name, value in load_weights().state.items()}
    return _load("starter", state, SCENES / "annotations" / "instances_val.json", count, **sizes)


def _given(request: pytest.FixtureRequest) -> Trained:
    from safetensors.torch import load_file

    folder: Path = request.getfixturevalue("starter")
    [path] = folder.glob("*.safetensors")
    state = {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
    [annotations] = (folder / "annotations").glob("instances_*.json")
    return _load(str(path), state, annotations, 12, min_size=256, max_size=448)


def _dense(request: pytest.FixtureRequest) -> Trained:
    """The bundled detector with noise for zeros: its channels are all in use, and its detections the same."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {name: torch.from_numpy(value) for name, value in load_weights().state.items()}
    for name, value in state.items():
        if value.ndim > 1:
            state[name] = torch.where(value == 0, 1e-5 * (value.max() - value.min()) * torch.randn_like(value), value)
    path = request.getfixturevalue("tmp_path_factory").mktemp("dense") / "dense.safetensors"
    save_file(state, path, {name: str(value) for name, value in load_weights().metadata.items()})
    return _load(str(path), state, SCENES / "annotations" / "instances_val.json", 3, min_size=224, max_size=384)


CASES: dict[str, Callable[[pytest.FixtureRequest], Trained]] = {
    "bundled": lambda _: _bundled(3, min_size=224, max_size=384),
    "dense": _dense,
    "bundled at its own size": lambda _: _bundled(3, min_size=640, max_size=854),
    "given": _given,
}


@pytest.fixture(
    scope="module",
    params=[
        "bundled",
        pytest.param("dense", marks=pytest.mark.slow),
        *(pytest.param(case, marks=pytest.mark.extended) for case in list(CASES)[2:]),
    ],
)
def trained(request: pytest.FixtureRequest) -> Trained:
    return CASES[request.param](request)


def detections(stock: torch.nn.Module, image: np.ndarray[Any, Any]) -> Detections:
    with torch.inference_mode():
        [out] = stock([to_tensor(Image.fromarray(image))])
    return Detections(*(out[name].numpy() for name in ("boxes", "scores", "labels")), masks=out["masks"][:, 0].numpy())


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(expected.boxes)
    for field in ("boxes", "scores", "labels", "masks"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


def assert_near(found: Detections, expected: Detections) -> None:
    """Each detection has one of the same label within 0.01 px and 1e-4 of score, both ways."""
    for these, those in ((found, expected), (expected, found)):
        for box, score, label in zip(these.boxes, these.scores, these.labels, strict=True):
            if score < THRESHOLD + 2e-4:
                continue
            same = those.labels == label
            near = np.abs(those.boxes[same] - box).max(axis=1, initial=0) <= 0.01
            assert (np.abs(those.scores[same][near] - score) <= 1e-4).any()


@pytest.mark.slow
def test_profiles_keep_their_bounds(trained: Trained) -> None:
    """0.01 px, 1e-4 of score, 0.0005 of AP for fast; not a bit for exact."""
    results: dict[str, list[Any]] = {"stock": [], "fast": []}
    for image_id, image in trained.pictures.items():
        expected = detections(trained.stock, image)
        fast = trained.models["fast"].detect_image(image)
        assert_near(fast, expected)
        results["stock"] += to_coco(expected, image_id)
        results["fast"] += to_coco(fast, image_id)
    assert_same(trained.models["exact"].detect_image(image), expected)
    stock_ap, fast_ap = (evaluate(trained.truth, found, list(trained.pictures)) for found in results.values())
    assert stock_ap.segm is not None
    assert fast_ap.segm is not None
    for reference, value in ((stock_ap.bbox, fast_ap.bbox), (stock_ap.segm, fast_ap.segm)):
        assert reference["AP"] is not None
        assert reference["AP"] > 0.3
        assert value["AP"] == pytest.approx(reference["AP"], abs=0.0005)


@pytest.mark.slow
def test_the_fast_split_equals_the_fast_model_in_one_process(trained: Trained) -> None:
    model, image = trained.models["fast"], next(iter(trained.pictures.values()))
    assert_same(model.decode(over_the_wire(model.encode(image))), model.detect_image(image))
