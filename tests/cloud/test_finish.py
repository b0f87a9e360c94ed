"""finish: the very detections of the whole network; an image's [F] by its clean frame, whatever the cache holds."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from requests_by_hand import SIZES, picture
from tiny_model import build

from featlink.channel.transmit import Transmission, reference, transmit
from featlink.cloud.finish import finish, run_network
from featlink.edge.prepare import Request, prepare
from featlink.shared.conditions.language import parse
from featlink.shared.errors import FrameError, ModelError
from featlink.shared.evaluation.coco import Detection
from featlink.shared.features import Array, FeatureMaps, FeatureSpec, Image, Sizes, TensorSpec
from featlink.shared.fpn import FPN
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame, Tensor
from featlink.shared.lru import PyramidCache
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN
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
def whole() -> TorchvisionRCNN:
    return build(ModelConfig())


@pytest.fixture
def model(whole: TorchvisionRCNN) -> Counting:
    return Counting(whole)


def sent(model: Counting, text: str, seed: int = 0) -> tuple[Frame, Transmission]:
    """A picture's frame as the edge sends it, and what the channel makes of it."""
    condition = parse(text)
    request = Request(picture(seed=seed), condition.domain, condition, image_id=seed)
    source = prepare(model.model, request, max_pixels=10**8).frame
    return source, transmit(source, condition, Telemetry())


Received = tuple[Frame, Telemetry, Frame | None]


def received(model: Counting, text: str, seed: int = 0) -> Received:
    """What the cloud gets, read from its bytes."""
    source, transmission = sent(model, text, seed)
    body = b"".join([*transmission.parts, *reference(source, transmission)])
    frame, clean, length = wire.read_with_reference(body)
    assert length == wire.nbytes(transmission.parts)
    return frame, transmission.telemetry, clean


def figures(answer: tuple[list[Detection], Telemetry]) -> tuple[list[Detection], object, object]:
    detections, report = answer
    return detections, report.fidelity, report.bits


Finish = Callable[[Frame, Telemetry, Frame | None], tuple[list[Detection], Telemetry]]


def finisher(model: Counting, max_bytes: int = PLENTY) -> Finish:
    return partial(finish, model, cache=PyramidCache(max_bytes))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_hit_and_a_miss_give_the_same(model: Counting) -> None:
    got = received(model, COARSE)
    used = finisher(model)
    miss = figures(used(*got))
    assert model.backbones == 1
    hit = figures(used(*got))
    assert model.backbones == 1, "the second time, the clean pyramid was at hand"
    assert hit == miss
    assert figures(finisher(model, max_bytes=0)(*got)) == miss
    detections, fidelity, _ = miss
    assert detections
    assert isinstance(fidelity, dict)
    assert 0 < fidelity["psnr_f"] < 60
    assert 0 < fidelity["ssim_f"] < 1


def test_what_others_send_meanwhile_changes_nothing(model: Counting) -> None:
    got = received(model, COARSE)
    alone = figures(finisher(model)(*got))
    used = finisher(model)
    for text, seed in (
        ("image: identity", 1),
        (FINE, 0),
        ("image: identity", 0),
        ("feature: identity", 0),
        (COARSE, 1),
    ):
        used(*received(model, text, seed))
    assert figures(used(*got)) == alone
    assert figures(used(*received(model, COARSE, 1))) != alone


def test_the_next_condition_of_a_picture_saves_the_backbone(model: Counting) -> None:
    used = finisher(model)
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
    used: Finish = partial(finish, model, cache=cache)  # type: ignore[arg-type]
    for got in frames:
        used(*got)
    before = model.backbones
    used(*frames[2])
    assert model.backbones == before
    used(*frames[0])
    assert model.backbones == before + 1, "the oldest went"


@pytest.mark.parametrize("condition", ["image: gaussian_noise(sigma=9)", COARSE, "image: jpeg @ at=original"])
def test_the_reference_is_no_part_of_what_is_counted(model: Counting, condition: str) -> None:
    source, transmission = sent(model, condition)
    assert transmission.telemetry.bits is not None
    assert transmission.telemetry.bits <= 8 * wire.nbytes(transmission.parts)
    frame, telemetry, clean = received(model, condition)
    assert clean is not None
    np.testing.assert_array_equal(clean.tensor("image").data, source.tensor("image").data)
    _, found = finisher(model)(frame, telemetry, clean)
    assert found.bits == transmission.telemetry.bits


@pytest.mark.parametrize("condition", ["image: identity", "feature: quantize(bits=4)"])
def test_what_needs_no_reference_has_none(model: Counting, condition: str) -> None:
    source, transmission = sent(model, condition)
    assert reference(source, transmission) == []


def test_without_a_reference_there_are_detections_and_no_fidelity_of_features(model: Counting) -> None:
    frame, telemetry, clean = received(model, COARSE)
    detections, found = finisher(model)(frame, telemetry, None)
    assert detections == finisher(model)(frame, telemetry, clean)[0]
    assert "psnr_f" not in found.fidelity


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((3, 120, 161), np.uint8),
        np.zeros((3, 160, 120), np.uint8),
        np.zeros((1, 120, 160), np.uint8),
        np.zeros((3, 120, 160), np.float32),
        np.zeros((3, 120, 160), np.uint16),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_a_reference_that_is_not_the_original_picture_is_refused(model: Counting, picture: Image) -> None:
    frame, telemetry, clean = received(model, COARSE)
    assert clean is not None
    wrong = replace(clean, tensors=(Tensor("image", picture),))
    with pytest.raises(FrameError, match=r"^the reference is .*, not the original picture$"):
        finisher(model)(frame, telemetry, wire.read(b"".join(wire.write(wrong))))


def test_features_have_no_reference(model: Counting) -> None:
    frame, telemetry, _ = received(model, "feature: quantize(bits=4)")
    _, _, clean = received(model, COARSE)
    with pytest.raises(FrameError, match="features have no reference"):
        finisher(model)(frame, telemetry, clean)


# --- against the network itself ----------------------------------------------------------------------------------


CONDITIONS = ("image: quantize(bits=2)", "image: gaussian_noise(sigma=20) @ at=original")


@pytest.fixture(scope="module")
def network() -> TorchvisionRCNN:
    return build(ModelConfig(**SIZES))


@pytest.fixture(scope="module")
def photo(pictures: list[Path]) -> bytes:
    return pictures[-1].read_bytes()


def through(network: TorchvisionRCNN, photo: bytes, text: str) -> tuple[Frame, Telemetry]:
    condition = parse(text)
    frame = prepare(network, Request(photo, condition.domain, condition, image_id=1), max_pixels=10**8).frame
    sent = transmit(frame, condition, Telemetry())
    return sent.frame, sent.telemetry


def assert_same(found: Detections, expected: Detections) -> None:
    assert len(expected.boxes)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.masks is not None
    assert expected.masks is not None
    np.testing.assert_array_equal(found.masks[0], expected.masks[0])


@pytest.mark.parametrize("text", CONDITIONS)
def test_distorted_image_is_judged_by_the_clean_pyramid(network: TorchvisionRCNN, photo: bytes, text: str) -> None:
    clean_frame, clean_report = through(network, photo, "image: identity")
    image = np.ascontiguousarray(clean_frame.tensor("image").data.transpose(1, 2, 0)).astype(np.uint8)
    output = run_network(network, clean_frame, clean_report)
    clean = output.pyramid
    assert_same(output.detections, network.detect_image(image))
    assert output.measured()[1].fidelity == {
        "psnr_i": None,
        "ssim_i": 1.0,
        "psnr_f": None,
        "ssim_f": 1.0,
        "spearman_f": 1.0,
    }

    frame, sent = through(network, photo, text)
    output = run_network(network, frame, sent)
    found, bad, report = output.detections, output.pyramid, output.measured(clean)[1]
    samples = frame.tensor("image").data
    if "original" in text:
        assert_same(found, network.detect_image(np.ascontiguousarray(samples.transpose(1, 2, 0)).astype(np.uint8)))
    else:  # 2 bits: 0, 85, 170, 255
        assert_same(found, network.decode(network.encode_input((samples * 85).astype(np.float32), frame.meta.sizes)))
    assert report.fidelity.keys() == {"psnr_i", "ssim_i", "psnr_f", "ssim_f", "spearman_f"}
    errors = []
    for level in FPN.names:  # in the clean level's range, pooled over all samples
        low, high = clean.levels[level].min(), clean.levels[level].max()
        errors.append(((bad.levels[level].astype(float) - clean.levels[level]) * 255 / float(high - low)).ravel())
    psnr = 10 * np.log10(255**2 / np.mean(np.concatenate(errors) ** 2))
    assert report.fidelity["psnr_f"] == pytest.approx(psnr, abs=1e-3)
    assert report.timings["fidelity"] > sent.timings["fidelity"]


def test_without_a_clean_pyramid_nothing_is_added(network: TorchvisionRCNN, photo: bytes) -> None:
    for text in (CONDITIONS[0], "feature: quantize(bits=4)"):
        frame, sent = through(network, photo, text)
        output = run_network(network, frame, sent)
        report = output.measured()[1]
        assert report.fidelity == sent.fidelity
        assert report.timings["heads"] > 0


# --- another model's features --------------------------------------------------------------------------------------


class Brightest(SplitModel):
    """One box around the brightest cell of a picture's means over 8×8 pixels, R, G and B."""

    name, weights, categories = "brightest", "0" * 16, ("background", "light")
    spec = FeatureSpec((TensorSpec("fine", 3, 8), TensorSpec("coarse", 3, 16, source="fine")), divisor=16)

    def encode_input(self, pixels: Array, sizes: Sizes) -> FeatureMaps:
        height, width = sizes.padded
        padded = np.zeros((3, height, width), np.float32)
        padded[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        fine = padded.reshape(3, height // 8, 8, width // 8, 8).mean(axis=(2, 4))
        return FeatureMaps(self.spec.complete({"fine": np.ascontiguousarray(fine, np.float32)}), sizes)

    def decode(self, features: FeatureMaps) -> Detections:
        row, column = np.unravel_index(features.levels["fine"].sum(axis=0).argmax(), features.levels["fine"].shape[1:])
        box = np.array([[8 * column, 8 * row, 8 * column + 8, 8 * row + 8]], np.float32)
        return Detections(box, np.ones(1, np.float32), np.ones(1, np.int64), None)


@pytest.mark.parametrize("send_derived", [True, False])
@pytest.mark.parametrize(
    "text", ["feature: identity", "feature: quantize:bits=8 @ range=fixed, fine=0:255", "image: jpeg @ at=original"]
)
def test_a_model_with_other_features_goes_through_all_three_functions(text: str, send_derived: bool) -> None:
    split, condition = Brightest(), parse(text)
    scene = np.zeros((40, 56, 3), np.uint8)
    scene[16:24, 32:40] = 255
    file = io.BytesIO()
    PIL.Image.fromarray(scene).save(file, "PNG")
    request = Request(file.getvalue(), condition.domain, condition)
    source = prepare(split, request, max_pixels=10**6, send_derived=send_derived).frame
    sent = transmit(source, condition, Telemetry())
    frame, clean, _ = wire.read_with_reference(b"".join([*sent.parts, *reference(source, sent)]))
    assert frame.meta.features == split.spec
    [detection], telemetry = finish(split, frame, sent.telemetry, clean)
    assert detection["bbox"] == [32, 16, 8, 8]
    assert telemetry.fidelity["ssim_f"] is not None
    with pytest.raises(ModelError, match="not those of this cloud's model"):
        finish(split, replace(frame, meta=replace(frame.meta, features=FPN)), sent.telemetry, clean)


def test_a_model_that_gives_tensors_of_torch_is_told() -> None:
    class OfTorch(Brightest):
        def encode_input(self, pixels: Array, sizes: Sizes) -> FeatureMaps:
            made = super().encode_input(pixels, sizes)
            return replace(made, levels={name: torch.from_numpy(level) for name, level in made.levels.items()})

    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "PNG")
    with pytest.raises(ModelError, match=r"the model gave fine as torch\.Tensor, not as a NumPy array"):
        prepare(OfTorch(), Request(file.getvalue(), "feature"), max_pixels=10**6)


BOXES, SCORES, LABELS = np.zeros((2, 4), np.float32), np.array([0.9, 0.5], np.float32), np.ones(2, np.int64)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "NoneType, not featlink"),
        (Detections(BOXES, torch.from_numpy(SCORES), LABELS, None), r"scores as torch\.Tensor, not as a NumPy array"),  # type: ignore[arg-type]
        (Detections(BOXES[:1], SCORES, LABELS, None), r"shapes \(1, 4\), \(2,\), \(2,\)"),
        (Detections(BOXES, SCORES, LABELS, [BOXES]), "1 masks of 2 objects"),
        (Detections(BOXES, SCORES[::-1], LABELS, None), "scores that do not fall"),
        (Detections(BOXES, np.array([0.9, np.nan], np.float32), LABELS, None), "scores that do not fall"),
        (Detections(BOXES, SCORES, np.array([1, 2]), None), "the label 2, and has labels from 1 to 1"),
        (Detections(BOXES, SCORES, np.array([0, 1]), None), "the label 0, and has labels from 1 to 1"),
    ],
)
def test_detections_that_cannot_be_used_are_told(found: Detections, reason: str) -> None:
    class Wrong(Brightest):
        def decode(self, features: FeatureMaps) -> Detections:
            return found

    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "PNG")
    frame = prepare(Wrong(), Request(file.getvalue(), "feature"), max_pixels=10**6).frame
    with pytest.raises(ModelError, match=f"^detections: the model brightest gave.*{reason}"):
        run_network(Wrong(), frame, Telemetry())
