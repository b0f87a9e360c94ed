"""What a step of another package may get wrong, and must not become a frame that says something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from featlink.channel import chain
from featlink.channel.codecs.base import Codec, Shape, Tools
from featlink.channel.codecs.process import CodecError
from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import Step
from featlink.shared.errors import StepError
from featlink.shared.frames.bitstream import Samples

SAMPLES = np.arange(256 * 6, dtype=np.uint16).reshape(256, 2, 3).astype(np.uint8)
RANGES = np.array([[0, 1]], np.float32)


class Wrong(Distortion):
    """Returns samples that cannot be sent."""

    type: Literal["wrong"] = "wrong"
    how: str

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        samples = planes.samples
        match self.how:
            case "fewer":
                return replace(planes, samples=samples[:-1])
            case "turned":
                return replace(planes, samples=samples.transpose(0, 2, 1))
            case "floats":
                return replace(planes, samples=samples / 2)  # type: ignore[arg-type]
            case "wider":
                return replace(planes, samples=samples.astype(np.uint16))
            case "signed":
                return replace(planes, samples=samples.astype(np.int8))  # type: ignore[arg-type]
            case "deeper":
                return replace(planes, bits=12)
        return replace(planes, samples=samples, bits=4)  # its samples are of 8 bits


class WrongTiles(Wrong):
    """The same, on planes of tiles."""

    spatial = True


class WrongCodec(Codec):
    """Gives another picture back, or none."""

    container = "bin"
    type: Literal["wrong_codec"] = "wrong_codec"
    how: str

    def encode(self, picture: Samples, tools: Tools) -> bytes:
        return b"" if self.how == "nothing" else picture.tobytes()

    def decode(self, bitstream: bytes, shape: Shape, tools: Tools) -> Samples:
        decoded = np.frombuffer(bitstream, np.uint8).reshape(shape)
        return decoded[:, 1:] if self.how == "smaller" else decoded.astype(np.uint16)


class Neither(Step):
    """A step that says what it is, and cannot do it."""

    kind = "distortion"
    type: Literal["neither"] = "neither"


def run(step: Step) -> None:
    planes = {"p5": Planes(SAMPLES, 8, RANGES)}
    chain.run(planes, (step,), Condition(), [0], image=1, tools=Tools())


@pytest.mark.parametrize("kind", [Wrong, WrongTiles])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("fewer", r"wrong made uint8 \(.*\) of samples that stay uint8 \(.*\)"),
        ("turned", r"wrong made uint8 \(.*\) of samples that stay uint8 \(.*\)"),
        ("floats", r"wrong made float64 .* of samples that stay uint8"),
        ("wider", r"wrong made uint16 .* of samples that stay uint8"),
        ("signed", r"wrong made int8 .* of samples that stay uint8"),
        ("deeper", r"wrong made uint8 .* of samples that stay uint16"),
        ("too large", "wrong made a sample of 255, which 4 bits do not hold"),
    ],
)
def test_a_distortion_that_returns_what_cannot_be_sent_is_named(kind: type[Wrong], how: str, message: str) -> None:
    with pytest.raises(StepError, match=f"^{message}"):
        run(kind(how=how))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nothing", "the wrong_codec encoder gave no bitstream"),
        ("smaller", r"the wrong_codec decoder gave uint8 \(1, 31, 48\), not uint8 \(1, 32, 48\)"),
        ("wider", r"the wrong_codec decoder gave uint16"),
    ],
)
def test_a_codec_that_returns_another_picture_is_named(how: str, message: str) -> None:
    with pytest.raises(CodecError, match=f"^{message}"):
        run(WrongCodec(how=how))


def test_a_step_that_is_neither_distortion_nor_codec_is_named() -> None:
    with pytest.raises(StepError, match="neither is neither a distortion nor a codec"):
        run(Neither())
