"""A chain: what a step of another package may get wrong must not become a frame that says something else; sequences."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from featlink.channel.chain import Chain, ChainOutput
from featlink.channel.codecs.base import (
    AccessUnit,
    Codec,
    CodecError,
    Coder,
    PictureFormat,
    Shape,
    StillCodec,
    StillCoder,
    Tools,
    Units,
)
from featlink.channel.distortions.base import Distortion, Planes
from featlink.channel.distortions.gaussian_noise import GaussianNoise
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import Step
from featlink.shared.errors import FrameError, StepError
from featlink.shared.frames.bitstream import Samples

LEVEL = (np.arange(256 * 6).reshape(256, 2, 3) % 256).astype(np.float32)
"""Its samples are its values."""


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


class WrongCodec(StillCodec):
    """Gives another picture back, or none."""

    container = "bin"
    type: Literal["wrong_codec"] = "wrong_codec"
    how: str

    def encode(self, picture: Samples) -> bytes:
        return b"" if self.how == "nothing" else picture.tobytes()

    def decode(self, bitstream: bytes, shape: Shape) -> Samples:
        decoded = np.frombuffer(bitstream, np.uint8).reshape(shape)
        return decoded[:, 1:] if self.how == "smaller" else decoded.astype(np.uint16)


class Neither(Step):
    """A step that says what it is, and cannot do it."""

    kind = "distortion"
    type: Literal["neither"] = "neither"


def run(step: Step) -> None:
    with Chain((step,), Condition()) as chain:
        chain.push(1, {"p5": LEVEL})


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


class Behind(Coder[Samples, AccessUnit]):
    """An encoder that looks one picture ahead, as video encoders do."""

    def __init__(self) -> None:
        self._held: list[AccessUnit] = []

    def push(self, given: Samples) -> list[AccessUnit]:
        units = (given[..., :1].tobytes(), given[..., 1:].tobytes())
        ready, self._held = self._held, [AccessUnit(units)]
        return ready

    def close(self) -> list[AccessUnit]:
        return self._held


class Looking(Codec):
    """A codec of sequences, of two units a picture."""

    container = "bin"
    type: Literal["looking"] = "looking"

    def open_encoder(self, form: PictureFormat, tools: Tools) -> Coder[Samples, AccessUnit]:
        return Behind()

    def open_decoder(self, form: PictureFormat, tools: Tools) -> Coder[Units, Samples]:
        def decode(units: Units) -> Samples:
            left = np.frombuffer(units[0], np.uint8).reshape(*form.shape[:2], 1)
            return np.concatenate([left, np.frombuffer(units[1], np.uint8).reshape(*form.shape[:2], -1)], axis=2)

        return StillCoder(decode)


class Lossy(StillCodec):
    """A codec that says it loses nothing, and does."""

    container = "bin"
    lossless = True
    type: Literal["lossy"] = "lossy"

    def encode(self, picture: Samples) -> bytes:
        return b"1"

    def decode(self, bitstream: bytes, shape: Shape) -> Samples:
        return np.zeros(shape, np.uint8)


def frames(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"p4": rng.random((6, 4, 6), np.float32), "p5": rng.random((6, 2, 3), np.float32)} for _ in range(count)]


def test_items_of_a_sequence_come_out_in_order_some_of_them_later() -> None:
    with Chain((Looking(), GaussianNoise(sigma=3)), Condition(seed=5)) as chain:
        ready = [[output.item for output in chain.push(("v", n), levels)] for n, levels in enumerate(frames(3))]
        assert ready == [[], [("v", 0)], [("v", 1)]]
        assert [output.item for output in chain.close()] == [("v", 2)]


def test_a_frame_of_a_sequence_is_what_it_is_alone() -> None:
    def sent(chain: Chain, levels: dict[str, np.ndarray], number: int) -> list[ChainOutput]:
        return chain.push(("v", number), levels)

    steps, condition = (Looking(), GaussianNoise(sigma=3)), Condition(seed=5)
    with Chain(steps, condition) as chain:
        together = [out for n, levels in enumerate(frames(3)) for out in sent(chain, levels, n)] + chain.close()
    for number, levels in enumerate(frames(3)):
        with Chain(steps, condition) as chain:
            (alone,) = sent(chain, levels, number) + chain.close()
        for name in levels:
            np.testing.assert_array_equal(together[number].planes[name].samples, alone.planes[name].samples)
            assert together[number].coded[name].coded.units == alone.coded[name].coded.units
            assert len(alone.coded[name].coded.units) == 2


def test_what_is_not_lossless_must_not_say_so() -> None:
    with pytest.raises(CodecError, match="the lossy decoder gave other samples"):
        run(Lossy())


def test_the_frames_of_a_sequence_keep_their_shapes() -> None:
    first, second = frames(2)
    with Chain((Looking(),), Condition()) as chain:
        chain.push(("v", 0), first)
        for other in ({"p4": second["p4"]}, {**second, "p5": second["p5"][:, :1]}):
            with pytest.raises(FrameError):
                chain.push(("v", 1), other)
        chain.push(("v", 1), second)
        assert [output.item for output in chain.close()] == [("v", 1)]
