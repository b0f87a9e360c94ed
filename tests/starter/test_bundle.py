"""The bundled checkpoint: checked, free of pickles, quick to load, and a detector."""

from __future__ import annotations

import hashlib
import pickle
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from featlink.dataset import open_dataset
from featlink.shared.errors import ModelError
from featlink.shared.evaluation.coco import parse
from featlink.shared.evaluation.coco_metrics import evaluate
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.models import checkpoints
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build
from featlink.starter import bundle

MODEL = "maskrcnn_resnet50_fpn"


@pytest.fixture(scope="module")
def model() -> TorchvisionRCNN:
    return build(ModelConfig(weights="starter"))


def test_it_fits_stock_torchvision_and_loads_in_three_seconds() -> None:
    start = time.process_time()
    weights = bundle.load_weights()
    assert time.process_time() - start < 3
    network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.state.items()})
    assert weights.sha256 == hashlib.sha256(bundle.WEIGHTS.read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_name_starter_gives_it_with_its_input_size(model: TorchvisionRCNN) -> None:
    checkpoint = checkpoints.load_checkpoint("starter", MODEL)
    assert checkpoint.identity == model.weights == bundle.load_weights().sha256[:16]
    assert not checkpoint.official
    assert checkpoint.metadata["min_size"] == "640"
    assert model.image_sizes(480, 640).resized == (640, 853)
    assert model.image_sizes(375, 500).resized == (640, 853)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^the weights are for maskrcnn_resnet50_fpn, not fasterrcnn_resnet50_fpn$"):
        build(ModelConfig(model="fasterrcnn_resnet50_fpn", weights="starter"))


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(bundle.WEIGHTS.read_bytes())
    data[len(data) // 2] ^= 1
    changed = tmp_path / bundle.WEIGHTS.name
    changed.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged: its SHA-256 is"):
        bundle.load_weights(changed)
    monkeypatch.setattr(bundle, "load_weights", lambda load=bundle.load_weights: load(changed))
    with pytest.raises(ModelError, match="is damaged") as caught:
        checkpoints.load_checkpoint("starter", MODEL)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        bundle.load_weights(tmp_path / "weights.npz")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    hostile = np.array([{"a": 1}], dtype=object)
    path = tmp_path / "weights.npz"
    np.savez(path, metadata=hostile)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        bundle.decode(path.read_bytes())
    path.write_bytes(pickle.dumps(hostile))
    with pytest.raises(ValueError, match="pickle"):
        bundle.decode(path.read_bytes())


def test_weights_survive_coding_to_half_a_step() -> None:
    rng = np.random.default_rng(5)
    wide = np.zeros((16, 12, 3, 3), np.float32)
    wide[:9, :7] = rng.normal(size=(9, 7, 3, 3)) * rng.uniform(0.01, 10, (9, 1, 1, 1))
    state = {
        "convolution": wide,
        "vector": np.r_[rng.normal(size=5), np.ones(3)].astype(np.float32),
        "constant": np.full(4, -1000, np.float32),
        "nothing": np.zeros((3, 3), np.float32),
        "counter": np.array(0, np.int64),
    }
    decoded, metadata = bundle.decode(bundle.encode(state, {"a": "b"}))
    assert metadata == {"a": "b"}
    assert {name: (value.shape, value.dtype) for name, value in decoded.items()} == {
        name: (value.shape, value.dtype) for name, value in state.items()
    }
    for name in ("vector", "constant", "nothing", "counter"):
        assert np.array_equal(decoded[name], state[name])
    step = np.abs(wide).reshape(16, -1).max(1) / 127
    assert np.all(np.abs(decoded["convolution"] - wide) <= step[:, None, None, None] * 0.5001)
    assert np.all((decoded["convolution"] == 0)[wide == 0])


def test_the_same_weights_give_the_same_file() -> None:
    state = {"a": np.eye(3, dtype=np.float32)}
    assert bundle.encode(state, {}) == bundle.encode(state, {})


@pytest.mark.slow
def test_it_detects(model: TorchvisionRCNN) -> None:
    """A few scenes with art it has not seen; docs/starter.md has the figures for all of them."""
    data = open_dataset(Path("starter"))
    truth = parse(data.annotations.read_bytes())
    chosen = list(data.images)[:8]
    found = [
        detection for image in chosen for detection in to_coco(model.detect_image(picture(data.images[image])), image)
    ]
    metrics = evaluate(truth, found, chosen)
    assert metrics.segm is not None
    assert (metrics.bbox["AP"] or 0) > 0.45
    assert (metrics.segm["AP"] or 0) > 0.45


@pytest.mark.slow
def test_all_channels_of_all_levels_vary(model: TorchvisionRCNN) -> None:
    levels = model.encode(picture(next(iter(open_dataset(Path("starter")).images.values())))).levels
    for level in levels.values():
        deviations = level.reshape(256, -1).std(1)
        assert deviations.min() > 0.05 * deviations.mean()


def picture(path: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
