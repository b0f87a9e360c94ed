"""[F] in the image domain: the very detections of the whole network, and the fidelity of its pyramid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featlink.channel.transmit import transmit
from featlink.cloud.detect import detect
from featlink.cloud.image_fidelity import UNCHANGED, measure
from featlink.edge.prepare import EdgePipeline, Request
from featlink.shared.conditions.language import parse
from featlink.shared.frames.cache import PyramidCache
from featlink.shared.frames.wire import Frame
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.fpn import FPN
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build
from featlink.shared.result import Telemetry

CONDITIONS = ("image: quantize(bits=2)", "image: gaussian_noise(sigma=20) @ at=original")


@pytest.fixture(scope="module")
def model(random_checkpoint: Callable[[str], Path]) -> TorchvisionRCNN:
    weights = str(random_checkpoint("maskrcnn_resnet50_fpn"))
    few = {"score_threshold": 0.005, "proposals": 100, "max_detections": 10}
    return build(ModelConfig(weights=weights, profile="exact", min_size=128, max_size=224, **few))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def picture(pictures: list[Path]) -> bytes:
    return pictures[-1].read_bytes()


def send(model: TorchvisionRCNN, picture: bytes, text: str) -> tuple[Frame, Telemetry]:
    condition = parse(text)
    pipeline = EdgePipeline(model, PyramidCache(0), 10**8)
    frame = pipeline(Request(picture, condition.domain, condition, image_id=1)).frame
    sent = transmit(frame, condition, Telemetry())
    return sent.frame, sent.report


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(expected.boxes)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.masks is not None
    assert expected.masks is not None
    np.testing.assert_array_equal(found.masks[0], expected.masks[0])


@pytest.mark.parametrize("text", CONDITIONS)
def test_distorted_image_is_judged_by_the_clean_pyramid(model: TorchvisionRCNN, picture: bytes, text: str) -> None:
    clean_frame, clean_report = send(model, picture, "image: identity")
    image = np.ascontiguousarray(clean_frame.tensor("image").data.transpose(1, 2, 0)).astype(np.uint8)
    found, clean, report = detect(model, clean_frame, clean_report)
    report = measure(clean_frame, clean, report, None)
    assert_same(found, model.detect_image(image))
    assert report.fidelity == {"psnr_i": None, "ssim_i": 1.0, **UNCHANGED}

    frame, sent = send(model, picture, text)
    found, bad, report = detect(model, frame, sent)
    report = measure(frame, bad, report, clean)
    samples = frame.tensor("image").data
    if "original" in text:
        assert_same(found, model.detect_image(np.ascontiguousarray(samples.transpose(1, 2, 0)).astype(np.uint8)))
    else:  # 2 bits: 0, 85, 170, 255
        assert_same(found, model.decode(model.encode_input((samples * 85).astype(np.float32), frame.meta.sizes)))
    assert report.fidelity.keys() == {"psnr_i", "ssim_i", "psnr_f", "ssim_f", "spearman_f"}
    errors = []
    for level in FPN.names:  # in the clean level's range, pooled over all samples
        low, high = clean.levels[level].min(), clean.levels[level].max()
        errors.append(((bad.levels[level].astype(float) - clean.levels[level]) * 255 / float(high - low)).ravel())
    psnr = 10 * np.log10(255**2 / np.mean(np.concatenate(errors) ** 2))
    assert report.fidelity["psnr_f"] == pytest.approx(psnr, abs=1e-3)
    assert report.timings["fidelity"] > sent.timings["fidelity"]


def test_without_a_clean_pyramid_and_in_the_feature_domain_nothing_is_added(
    model: TorchvisionRCNN, picture: bytes
) -> None:
    for text in (CONDITIONS[0], "feature: quantize(bits=4)"):
        frame, sent = send(model, picture, text)
        _, pyramid, report = detect(model, frame, sent)
        report = measure(frame, pyramid, report, None)
        assert report.fidelity == sent.fidelity
        assert report.timings["heads"] > 0
        if frame.meta.domain == "feature":
            assert measure(frame, pyramid, report, pyramid).fidelity == sent.fidelity
