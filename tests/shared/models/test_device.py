"""Where a network runs: the choice, and on each device found here, split inference against stock torchvision there."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model
from torchvision.transforms.functional import to_tensor

import featlink as fl
from featlink.shared.errors import ModelError
from featlink.shared.features import FeatureMaps
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.device import AT_ONCE, resolve
from featlink.shared.models.torchvision_rcnn import StatelessRoIPooler, TorchvisionRCNN, build
from featlink.starter.bundle import SCENES, load_weights

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SIZES = {"min_size": 224, "max_size": 384}
PICTURES = [
    np.array(Image.open(path).convert("RGB").resize(size))
    for path, size in zip(sorted((SCENES / "val").glob("*.jpg"))[:3], [(320, 240), (150, 200), (400, 90)], strict=True)
]
"""Of three sizes, so that one that depended on another would show."""


@pytest.fixture(scope="module", params=DEVICES)
def model(request: pytest.FixtureRequest) -> TorchvisionRCNN:
    return build(ModelConfig(weights="starter", profile="exact", device=request.param, **SIZES))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stock(model: TorchvisionRCNN) -> list[dict[str, Any]]:
    network = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, **SIZES).eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in load_weights().state.items()})
    network.to(model.device)
    answers = []
    with torch.inference_mode():
        for picture in PICTURES:
            network.roi_heads.box_roi_pool.scales = network.roi_heads.mask_roi_pool.scales = None
            [answer] = network([to_tensor(Image.fromarray(picture)).to(model.device)])
            answers.append({name: value.cpu().numpy() for name, value in answer.items()})
    return answers


def assert_equal(found: Detections, expected: dict[str, Any]) -> None:
    assert len(found)
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(found, name), expected[name])
    assert found.masks is not None
    np.testing.assert_array_equal(np.stack(list(found.masks)), expected["masks"][:, 0])


@pytest.mark.slow
def test_exact_is_stock_torchvision_there(model: TorchvisionRCNN, stock: list[dict[str, Any]]) -> None:
    for picture, expected in zip(PICTURES, stock, strict=True):
        sent = copy.deepcopy(model.encode(picture))
        assert_equal(model.decode(FeatureMaps(sent.levels, sent.sizes)), expected)
        assert_equal(model.detect_image(picture), expected)


@pytest.mark.slow
def test_many_at_a_time_find_what_one_does(model: TorchvisionRCNN, stock: list[dict[str, Any]]) -> None:
    work = PICTURES * 2
    with ThreadPoolExecutor(AT_ONCE + 2) as pool:
        pyramids = list(pool.map(model.encode, work))
        found = list(pool.map(model.decode, pyramids))
    for one, expected in zip(found, stock * 2, strict=True):
        assert_equal(one, expected)


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve("auto") == resolve("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve("auto") == resolve("cuda") == torch.device("cuda:0")
    assert resolve("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ModelError, match=r"^no device cuda:2: torch .* finds 2 CUDA GPUs here$"):
        resolve("cuda:2")


@pytest.mark.skipif("cuda" in DEVICES, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^no device cuda: torch .* finds no CUDA GPUs here$"):
        fl.load(device="cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:1:2", "mps", ""])
def test_other_names_are_refused(device: str) -> None:
    with pytest.raises(ModelError, match=r"^device: "):
        fl.load(device=device)


@pytest.mark.slow
def test_the_poolers_keep_nothing(model: TorchvisionRCNN) -> None:
    model.detect_image(PICTURES[0])
    pool = model.network.roi_heads.box_roi_pool
    assert isinstance(pool, StatelessRoIPooler)
    assert pool.scales is None
