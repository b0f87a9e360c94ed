"""A network cut at each of its split points: against stock torchvision, and against itself uncut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import TINY
from torchvision.models import get_model
from torchvision.transforms.functional import to_tensor

from featlink.costs import network_cost
from featlink.network import checked_config
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConditionError, ModelError
from featlink.shared.fpn import SPLITS
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.registry import build
from featlink.starter.bundle import SCENES, load_weights

SIZES: dict[str, Any] = {"min_size": 160, "max_size": 256}
EARLY = [split for split in SPLITS if split != "p2-p6"]
THRESHOLD = 0.05


@pytest.fixture(scope="module")
def scene() -> np.ndarray[Any, Any]:
    return np.array(Image.open(SCENES / "val" / "000000000004.jpg").convert("RGB"))


@pytest.fixture(scope="module")
def stock(scene: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
    network = get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, **SIZES)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in load_weights().state.items()})
    with torch.inference_mode():
        [out] = network.eval()([to_tensor(Image.fromarray(scene))])
    found: dict[str, torch.Tensor] = out
    assert len(found["boxes"]) > 2
    return found


@pytest.mark.slow
@pytest.mark.parametrize("split", EARLY)
def test_exact_is_bit_identical_to_stock_torchvision(
    split: str, scene: np.ndarray[Any, Any], stock: dict[str, torch.Tensor]
) -> None:
    model = build(ModelConfig(profile="exact", split=split, **SIZES))
    edge = build(ModelConfig(profile="exact", split=split, **SIZES), heads=False)
    features = edge.encode(scene)
    assert {name: level.shape for name, level in features.levels.items()} == SPLITS[split].shapes(features.sizes.padded)
    found = model.decode(features)
    for name, array in (("boxes", found.boxes), ("scores", found.scores), ("labels", found.labels)):
        np.testing.assert_array_equal(array, stock[name].numpy())
    assert found.masks is not None
    np.testing.assert_array_equal(found.masks, stock["masks"][:, 0].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("split", EARLY)
def test_fast_is_within_its_bounds_and_the_halves_are_the_whole(
    split: str, scene: np.ndarray[Any, Any], stock: dict[str, torch.Tensor]
) -> None:
    model = build(ModelConfig(split=split, **SIZES))
    edge = build(ModelConfig(split=split, **SIZES), heads=False)
    found, whole = model.decode(edge.encode(scene)), model.detect_image(scene)  # type: ignore[attr-defined]
    assert _same(found, whole)
    sure = found.scores > THRESHOLD + 1e-4
    boxes, scores = stock["boxes"].numpy(), stock["scores"].numpy()
    assert sure.sum() == (scores > THRESHOLD + 1e-4).sum()
    np.testing.assert_allclose(found.boxes[sure], boxes[: sure.sum()], atol=0.01)
    np.testing.assert_allclose(found.scores[sure], scores[: sure.sum()], atol=1e-4)


@pytest.mark.parametrize("split", EARLY)
@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn"])
@pytest.mark.extended
def test_other_architectures_too(name: str, split: str, random_checkpoint: Any, scene: np.ndarray[Any, Any]) -> None:
    some = {"proposals": 20, "max_detections": 5, "score_threshold": 0.0, **SIZES}
    given = ModelConfig(model=name, weights=str(random_checkpoint(name)), profile="exact", **some)
    whole = build(given).decode(build(given).encode(scene))
    cut = build(ModelConfig(model=name, weights=given.weights, profile="exact", split=split, **some))
    assert _same(cut.decode(cut.encode(scene)), whole)


def _same(a: Detections, b: Detections) -> bool:
    boxes = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("boxes", "scores", "labels"))
    return boxes and len(a) > 0 and (a.masks is None or all(map(np.array_equal, a.masks, b.masks or ())))


def test_the_halves_cost_what_the_whole_costs() -> None:
    costs = [network_cost("maskrcnn_resnet50_fpn", split) for split in SPLITS]
    assert [cost.front for cost in costs] == sorted({cost.front for cost in costs})
    assert {round(cost.front + cost.back, 3) for cost in costs} == {round(costs[-1].front, 3)}
    assert costs[-1].back == 0
    assert costs[0].front == pytest.approx(64 * 3 * 49 / 4)


def test_a_place_that_a_model_has_not_is_refused() -> None:
    with pytest.raises(ModelError, match="'c3' is no split point"):
        build(ModelConfig(split="c3"))
    with pytest.raises(ModelError, match="cannot be cut at 'c2'"):
        build(ModelConfig(model="examples/own_model.py:build", split="c2"))
    assert checked_config(split="c2").split == "c2"


@pytest.mark.slow
@pytest.mark.parametrize("split", EARLY)
def test_conditions_work_at_each(split: str, scene: np.ndarray[Any, Any]) -> None:
    from featlink.channel.transmit import transmit
    from featlink.cloud.finish import finish
    from featlink.edge.prepare import Request, prepare
    from featlink.shared.result import Telemetry

    model = build(ModelConfig(model=TINY, split=split))
    data = (SCENES / "val" / "000000000004.jpg").read_bytes()
    for text in ("quantize(bits=6) | entropy", "gaussian_noise(sigma=2)", "hevc(qp=30) @ packing=stacked", "jpeg"):
        condition = parse(text)
        frame = prepare(model, Request(data, "feature", condition), max_pixels=10**7).frame
        sent = transmit(frame, condition, Telemetry())
        found, telemetry = finish(model, sent.frame, sent.telemetry)
        assert found
        assert telemetry.fidelity["psnr_f"] is not None
    pca = parse("pca")
    source = prepare(model, Request(data, "feature", pca), max_pixels=10**7).frame
    with pytest.raises(ConditionError, match="is not fitted"):
        transmit(_of_starter(source), pca, Telemetry())
    with pytest.raises(ModelError, match=f"tiny@{split}"):
        finish(build(ModelConfig(model=TINY)), source, Telemetry())


def _of_starter(frame: Any) -> Any:
    from dataclasses import replace

    return replace(frame, meta=replace(frame.meta, weights=load_weights().sha256[:16]))
