"""Detector: an image's [F] depends on its frame alone, whatever the cache holds; references are checked and free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from requests_by_hand import picture

from featlink.channel.transmit import Transmission, transmit, with_reference
from featlink.cloud.detect import Detector
from featlink.edge.prepare import EdgePipeline, Request
from featlink.shared.conditions.language import parse
from featlink.shared.errors import FrameError
from featlink.shared.evaluation.coco import Detection
from featlink.shared.features import FeatureMaps, Image
from featlink.shared.frames import wire
from featlink.shared.frames.cache import PyramidCache
from featlink.shared.frames.wire import REFERENCE, Frame, Tensor
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build
from featlink.shared.result import Telemetry

PLENTY = 1 << 30
COARSE, FINE = "image: quantize(bits=2)", "image: quantize(bits=6)"


class Counting:
    """A model that counts the clean pictures its backbone sees."""

    def __init__(self, model: TorchvisionRCNN) -> None:
        self.model = model
        self.backbones = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def encode(self, image: Image) -> FeatureMaps:
        self.backbones += 1
        return self.model.encode(image)


@pytest.fixture(scope="module")
def whole(random_checkpoint: Callable[[str], Path]) -> TorchvisionRCNN:
    weights = str(random_checkpoint("maskrcnn_resnet50_fpn"))
    few = {"score_threshold": 0.01, "proposals": 30, "max_detections": 5}
    return build(ModelConfig(weights=weights, profile="exact", min_size=64, max_size=96, threads=1, **few))  # type: ignore[arg-type]


@pytest.fixture
def model(whole: TorchvisionRCNN) -> Counting:
    return Counting(whole)


def sent(model: Counting, text: str, seed: int = 0) -> tuple[Frame, Transmission]:
    """A picture's frame as the edge sends it, and what the channel makes of it."""
    condition = parse(text)
    pipeline = EdgePipeline(model.model, PyramidCache(0), 10**8)
    source = pipeline(Request(picture(seed=seed), condition.domain, condition, image_id=seed)).frame
    return source, transmit(source, condition, Telemetry())


def received(model: Counting, text: str, seed: int = 0) -> tuple[Frame, Telemetry]:
    """What the cloud gets, read from its bytes."""
    source, transmission = sent(model, text, seed)
    return wire.read(b"".join(with_reference(source, transmission))), transmission.report


def figures(answer: tuple[list[Detection], Telemetry]) -> tuple[list[Detection], object, object]:
    detections, report = answer
    return detections, report.fidelity, report.bits


def detector(model: Counting, max_bytes: int = PLENTY) -> Detector:
    return Detector(model, PyramidCache(max_bytes))  # type: ignore[arg-type]


def test_a_hit_and_a_miss_give_the_same(model: Counting) -> None:
    frame, report = received(model, COARSE)
    used = detector(model)
    miss = figures(used(frame, report))
    assert model.backbones == 1
    hit = figures(used(frame, report))
    assert model.backbones == 1, "the second time, the clean pyramid was at hand"
    assert hit == miss
    assert figures(detector(model, max_bytes=0)(frame, report)) == miss
    detections, fidelity, _ = miss
    assert detections
    assert isinstance(fidelity, dict)
    assert 0 < fidelity["psnr_f"] < 60
    assert 0 < fidelity["ssim_f"] < 1


def test_what_others_send_meanwhile_changes_nothing(model: Counting) -> None:
    frame, report = received(model, COARSE)
    alone = figures(detector(model)(frame, report))
    used = detector(model)
    for text, seed in (
        ("image: identity", 1),
        (FINE, 0),
        ("image: identity", 0),
        ("feature: identity", 0),
        (COARSE, 1),
    ):
        used(*received(model, text, seed))
    assert figures(used(frame, report)) == alone
    assert figures(used(*received(model, COARSE, 1))) != alone


def test_the_next_condition_of_a_picture_saves_the_backbone(model: Counting) -> None:
    used = detector(model)
    used(*received(model, "image: identity"))
    clean = model.backbones
    coarse, fine = (figures(used(*received(model, text)))[1] for text in (COARSE, FINE))
    assert model.backbones == clean, "the clean picture's own pyramid was kept"
    assert isinstance(coarse, dict)
    assert isinstance(fine, dict)
    assert coarse["psnr_f"] < fine["psnr_f"]


def test_the_cache_is_bounded(model: Counting) -> None:
    frames = [received(model, COARSE, seed) for seed in range(3)]
    one = model.model.encode(np.zeros((120, 160, 3), np.uint8)).nbytes
    cache = PyramidCache(2 * one)
    used = Detector(model, cache)  # type: ignore[arg-type]
    for frame, report in frames:
        used(frame, report)
    assert cache._bytes == 2 * one
    before = model.backbones
    used(*frames[2])
    assert model.backbones == before
    used(*frames[0])
    assert model.backbones == before + 1, "the oldest went"


@pytest.mark.parametrize("condition", ["image: gaussian_noise(sigma=9)", COARSE, "image: jpeg @ at=original"])
def test_the_reference_is_no_part_of_what_is_counted(model: Counting, condition: str) -> None:
    source, transmission = sent(model, condition)
    parts = with_reference(source, transmission)
    assert wire.nbytes(parts) > wire.nbytes(transmission.parts)
    assert transmission.report.bits is not None
    assert transmission.report.bits <= 8 * wire.nbytes(transmission.parts)
    frame = wire.read(b"".join(parts))
    np.testing.assert_array_equal(frame.tensor(REFERENCE).data, source.tensor("image").data)
    _, report = detector(model)(frame, transmission.report)
    assert report.bits == transmission.report.bits


@pytest.mark.parametrize("condition", ["image: identity", "feature: quantize(bits=4)"])
def test_what_needs_no_reference_has_none(model: Counting, condition: str) -> None:
    source, transmission = sent(model, condition)
    assert with_reference(source, transmission) is transmission.parts


def test_without_a_reference_there_are_detections_and_no_fidelity_of_features(model: Counting) -> None:
    frame, report = received(model, COARSE)
    bare = replace(frame, tensors=frame.tensors[:1])
    detections, found = detector(model)(bare, report)
    assert detections == detector(model)(frame, report)[0]
    assert "psnr_f" not in found.fidelity


@pytest.mark.parametrize(
    "reference",
    [
        np.zeros((3, 120, 161), np.uint8),
        np.zeros((3, 160, 120), np.uint8),
        np.zeros((1, 120, 160), np.uint8),
        np.zeros((3, 120, 160), np.float32),
        np.zeros((3, 120, 160), np.uint16),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_a_reference_that_is_not_the_original_picture_is_refused(model: Counting, reference: Image) -> None:
    frame, report = received(model, COARSE)
    wrong = replace(frame, tensors=(frame.tensors[0], Tensor(REFERENCE, reference)))
    with pytest.raises(FrameError, match=r"^the reference is .*, not the original picture$"):
        detector(model)(wire.read(b"".join(wire.write(wrong))), report)
