"""The split against stock torchvision, in process and bit for bit; `test_profiles.py` has the fast profile."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_wire import over_the_wire
from PIL import Image
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.functional import to_tensor
from waiting import wait_until

from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.torchvision_rcnn import build

pytestmark = pytest.mark.slow  # of the real networks

SIZES: dict[str, Any] = {"min_size": 128, "max_size": 224}
FEW: dict[str, Any] = {"score_threshold": 0.005, "proposals": 100, "max_detections": 10}
STOCK_FEW: dict[str, Any] = {
    "box_score_thresh": 0.005,
    "rpn_post_nms_top_n_test": 100,
    "box_detections_per_img": 10,
}


def noise(height: int = 96, width: int = 128) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def call_stock(network: Any, image: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        [out] = network([to_tensor(Image.fromarray(image))])
    result: dict[str, torch.Tensor] = out
    return result


def assert_identical(found: Detections, stock: dict[str, torch.Tensor]) -> None:
    assert len(stock["boxes"]) > 0
    np.testing.assert_array_equal(found.boxes, stock["boxes"].numpy())
    np.testing.assert_array_equal(found.scores, stock["scores"].numpy())
    np.testing.assert_array_equal(found.labels, stock["labels"].numpy())
    assert found.masks is not None
    np.testing.assert_array_equal(found.masks, stock["masks"][:, 0].numpy())


def test_exact_split_keeps_every_bit_of_the_masks_too(random_checkpoint: Callable[[str], Path]) -> None:
    path = random_checkpoint("maskrcnn_resnet50_fpn")
    model = build(ModelConfig(weights=str(path), profile="exact", **FEW, **SIZES))
    edge = build(ModelConfig(weights=str(path), profile="exact", **SIZES), heads=False)
    stock = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, **STOCK_FEW, **SIZES)
    stock.load_state_dict(torch.load(path, weights_only=True))
    expected = call_stock(stock.eval(), noise())
    assert_identical(model.decode(over_the_wire(edge.encode(noise()))), expected)
    assert_identical(model.detect_image(noise()), expected)


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn"])
def test_official_layout_from_the_cache_equals_torchvision(
    name: str, random_checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the official name and layout (frozen batch norm) in torch.hub's cache, in the place of the download."""
    state = torch.load(random_checkpoint(name), weights_only=True)
    official = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    generator = torch.Generator().manual_seed(3)
    for key, value in official.items():
        if key.endswith("running_var"):  # so that eps matters
            value.copy_(torch.rand(value.shape, generator=generator) * 0.2 + 1)
    weights = get_model_weights(name)["COCO_V1"]
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / weights.url.rpartition("/")[2]
    torch.save(official, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(
        "featlink.shared.models.checkpoints.path_hash", lambda _: digest
    )  # the real file's is in its name
    stock = get_model(name, weights=weights, progress=False, **STOCK_FEW, **SIZES).eval()
    expected = call_stock(stock, noise())
    ours = build(ModelConfig(model=name, weights="coco", profile="exact", **FEW, **SIZES))
    assert_identical(ours.decode(ours.encode(noise())), expected)
    by_path = build(ModelConfig(model=name, weights=str(path), profile="exact", **FEW, **SIZES))
    assert by_path.categories[:2] == ["__background__", "person"]
    assert by_path.encode(noise()).levels["p2"].shape[0] == 256


def test_other_architectures_are_refused(random_checkpoint: Callable[[str], Path]) -> None:
    path = random_checkpoint("fasterrcnn_resnet50_fpn")
    with pytest.raises(ModelError, match=r"do not fit maskrcnn_resnet50_fpn: no roi_heads.mask"):
        build(ModelConfig(weights=str(path)))


def test_order_of_images_does_not_matter(random_checkpoint: Callable[[str], Path]) -> None:
    """torchvision's pooler keeps the scales of the first image it saw; a very narrow one gets others."""
    path = random_checkpoint("maskrcnn_resnet50_fpn")
    model = build(ModelConfig(weights=str(path), profile="exact", **FEW, **SIZES))
    first = model.detect_image(noise())
    model.detect_image(noise(8, 224))
    again = model.detect_image(noise())
    np.testing.assert_array_equal(first.boxes, again.boxes)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity is read from Linux's /proc")
def test_inference_pins_no_thread_to_a_core() -> None:
    """Or every process that runs on this machine would pin its threads to the same first cores."""
    model = build(ModelConfig(weights="starter", threads=1), heads=False)
    with ThreadPoolExecutor(1) as pool:
        inference = pool.submit(model.encode, noise(480, 640))
        found = set()

        def look() -> bool:
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    found.add(frozenset(os.sched_getaffinity(int(task.name))))
            return inference.done()

        wait_until(look, "the inference", pause=0.001)
        inference.result()
    assert found == {frozenset(os.sched_getaffinity(0))}
