"""Split inference over HTTP against stock torchvision called directly: bit for bit in the exact profile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from safetensors.torch import load_file
from torchvision.models import get_model
from torchvision.transforms.functional import to_tensor

from featlink.starter.bundle import SCENES, load_weights

MODELS = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn")
FEW = {"score_threshold": 0.02, "proposals": 100, "max_detections": 20}
"""Random weights find something everywhere: enough of it, at a bearable cost."""
SIZES = {
    "min_size": int(os.environ.get("FEATLINK_TEST_MIN_SIZE", "128")),
    "max_size": int(os.environ.get("FEATLINK_TEST_MAX_SIZE", "224")),
}
"""Of the network input: small by default, so that three models on 20 photos take a minute or two, not half an hour."""


def stock(model: str, state: dict[str, torch.Tensor], **options: Any) -> torch.nn.Module:
    network = get_model(model, weights=None, weights_backbone=None, **options)
    network.load_state_dict(state)
    return network.eval()


def reference(network: torch.nn.Module, photo: Path) -> list[dict[str, Any]]:
    """What torchvision says, written the way the services answer."""
    with torch.inference_mode():
        [out] = network([to_tensor(Image.open(photo).convert("RGB"))])
    found = []
    for i in range(len(out["boxes"])):
        x1, y1, x2, y2 = (float(v) for v in out["boxes"][i])
        entry = {
            "image_id": None,
            "category_id": int(out["labels"][i]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(out["scores"][i]),
        }
        if "masks" in out:
            code = rle.encode(np.asfortranarray((out["masks"][i, 0] > 0.5).numpy().astype(np.uint8)))
            entry["segmentation"] = {"size": code["size"], "counts": code["counts"].decode()}
        found.append(entry)
    return found


def answers(edge: str, photo: Path, **params: Any) -> list[dict[str, Any]]:
    response = httpx.post(f"{edge}/v1/infer", content=photo.read_bytes(), params=params, timeout=120)
    assert response.status_code == 200, response.text
    detections: list[dict[str, Any]] = response.json()["detections"]
    return detections


def given_state(path: Path) -> dict[str, torch.Tensor]:
    state = load_file(path)
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.slow
def test_bundled_weights_on_bundled_scenes_equal_stock_torchvision_bit_for_bit(
    deploy: Callable[..., contextlib.AbstractContextManager[Any]],
) -> None:
    """Boxes, scores, labels and masks, whether features or pixels are sent."""
    sizes = {"min_size": 160, "max_size": 256}
    network = stock(
        "maskrcnn_resnet50_fpn",
        {name: torch.from_numpy(value) for name, value in load_weights().state.items()},
        **sizes,
    )
    scenes = [SCENES / "val" / name for name in ("000000000004.jpg", "000000000010.png")]
    with deploy(weights="starter", profile="exact", **sizes) as services:
        for scene in scenes:
            expected = reference(network, scene)
            assert len(expected) > 2
            for domain in ("feature", "image"):
                assert answers(services.edge, scene, domain=domain) == expected, (scene.name, domain)


@pytest.mark.extended
@pytest.mark.parametrize("model", MODELS)
def test_each_architecture_equals_stock_torchvision_bit_for_bit(
    model: str,
    deploy: Callable[..., contextlib.AbstractContextManager[Any]],
    random_checkpoint: Callable[[str], Path],
    pictures: list[Path],
) -> None:
    assert len(pictures) == 20
    path = random_checkpoint(model)
    options = {"box_score_thresh": 0.02, "rpn_post_nms_top_n_test": 100, "box_detections_per_img": 20}
    network = stock(model, torch.load(path, weights_only=True), **SIZES, **options)
    settings = {"model": model, "weights": str(path), "profile": "exact", **FEW, **SIZES}
    total = 0
    with deploy(**settings) as services:
        for i, picture in enumerate(pictures):
            expected = reference(network, picture)
            assert answers(services.edge, picture) == expected, picture.name
            if i % 6 == 0:  # pixels sent as they are go through the whole network in the cloud
                assert answers(services.edge, picture, domain="image") == expected, picture.name
            total += len(expected)
    assert total > len(pictures)


@pytest.mark.extended
def test_given_weights_equal_stock_torchvision_bit_for_bit(
    deploy: Callable[..., contextlib.AbstractContextManager[Any]], starter: Path, pictures: list[Path]
) -> None:
    [path] = starter.glob("*.safetensors")
    network = stock("maskrcnn_resnet50_fpn", given_state(path), **SIZES)
    scenes = sorted((starter / "val2017").iterdir())[:12]
    with deploy(weights=str(path), profile="exact", **SIZES) as services:
        for picture in scenes + pictures[:8]:
            expected = reference(network, picture)
            assert answers(services.edge, picture) == expected, picture.name
            assert picture not in scenes or expected
