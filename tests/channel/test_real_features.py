"""The channel on the pyramid of a trained network: rate and distortion of real features."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from featlink.channel.transmit import transmit
from featlink.edge.prepare import Request, prepare
from featlink.shared.conditions.language import parse
from featlink.shared.frames.wire import Frame
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import build
from featlink.shared.result import Telemetry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def frame(starter: Path) -> Frame:
    weights = next(starter.glob("*.safetensors"))
    model = build(ModelConfig(weights=str(weights), profile="exact", min_size=224, max_size=320), heads=False)
    scene = sorted((starter / "val2017").iterdir())[0]
    return prepare(model, Request(scene.read_bytes(), image_id=1), max_pixels=10**7).frame


def measure(frame: Frame, text: str) -> tuple[int, float]:
    """Bits and PSNR[F]."""
    telemetry = transmit(frame, parse(text), Telemetry()).telemetry
    psnr = telemetry.fidelity["psnr_f"]
    assert telemetry.bits is not None
    assert psnr is not None
    return telemetry.bits, psnr


@pytest.mark.parametrize(
    "texts",
    [
        [f"vvenc(qp={qp})" for qp in (22, 27, 32, 37, 42, 47)],
        [f"vvenc(qp={qp}) @ packing=stacked" for qp in (22, 37, 47)],
        [f"vvenc(qp={qp}, bit_depth=10)" for qp in (22, 37, 47)],
        [f"hevc(qp={qp})" for qp in (22, 32, 42)],
        [f"jpeg(quality={quality})" for quality in (90, 60, 30)],
        [f"quantize(bits={bits})" for bits in (10, 8, 6, 4, 2)],
    ],
    ids=["vvenc", "vvenc stacked", "vvenc 10 bit", "hevc", "jpeg", "quantize"],
)
def test_coarser_is_strictly_smaller_and_worse(frame: Frame, texts: list[str]) -> None:
    points = [measure(frame, text) for text in texts]
    for (bits, psnr), (fewer, worse) in pairwise(points):
        assert fewer < bits
        assert worse < psnr


@pytest.mark.parametrize("text", ["gaussian_noise(sigma={})", "gaussian_blur(sigma={})", "rank_shuffle(span={}000)"])
def test_stronger_is_worse(frame: Frame, text: str) -> None:
    psnr = [measure(frame, text.format(strength))[1] for strength in (1, 5, 25)]
    assert psnr == sorted(psnr, reverse=True)


def test_features_that_are_not_numbers_are_refused(frame: Frame) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        level = frame.tensors[1].data.copy()
        level[3, 1, 1] = bad
        tensors = (frame.tensors[0], type(frame.tensors[1])("p3", level), *frame.tensors[2:])
        with pytest.raises(Exception, match="p3: features are not finite"):
            transmit(Frame(frame.meta, tensors), parse("gaussian_blur(sigma=1)"), Telemetry())
