"""Pictures coded from one another: access units are the stream, and any decoder has the samples that are used."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from sent_by_hand import feature_frame, image_frame, uniform

from featlink.channel.codecs.base import (
    CodecError,
    CodedPlanes,
    PictureFormat,
    PlaneCoder,
    Tools,
    code,
)
from featlink.channel.codecs.programs import bundled_ffmpeg
from featlink.channel.codecs.video import VideoCodec
from featlink.channel.transmit import Stream, Transmission, transmit
from featlink.shared import cancelling
from featlink.shared.cancelling import AbandonedError
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import steps
from featlink.shared.frames.wire import Frame
from featlink.shared.result import Telemetry

NAMES = ("h264", "hevc", "av1", "vvenc")
GOPS = ("low_delay", "random_access")
PERIOD, COUNT = 4, 10
HEIGHT, WIDTH = 44, 70


def codec(name: str, gop: str = "low_delay", **fields: object) -> VideoCodec:
    made = steps()[name].model_validate({"gop": gop, "period": PERIOD, "qp": 24, **fields})
    assert isinstance(made, VideoCodec)
    return made


def moving(channels: int, count: int = COUNT, seed: int = 0) -> list[np.ndarray]:
    """A texture that moves by two pixels, with noise of each picture's own."""
    rng = np.random.default_rng(seed)
    size = (WIDTH + 2 * count, HEIGHT + 2 * count)
    world = cv2.resize(rng.random((12, 16, channels)), size, interpolation=cv2.INTER_CUBIC).reshape(*size[::-1], -1)
    views = [world[2 * t : 2 * t + HEIGHT, 2 * t : 2 * t + WIDTH] * 200 + 20 for t in range(count)]
    noisy = [np.clip(view + rng.normal(0, 1, (HEIGHT, WIDTH, 1)), 0, 255) for view in views]
    return [view.astype(np.uint8).transpose(2, 0, 1) for view in noisy]


def coded(pictures: list[np.ndarray], codec: VideoCodec, tools: Tools | None = None) -> list[CodedPlanes]:
    with PlaneCoder(codec, {"": PictureFormat(pictures[0].shape)}, tools) as coder:
        return [out for picture in pictures for out in coder.push({"": picture})] + coder.close()


def by_program(stream: bytes, codec: VideoCodec, channels: int, folder: Path) -> list[np.ndarray]:
    """What FFmpeg, given the whole stream as a file, decodes."""
    path = folder / f"stream.{codec.container}"
    path.write_bytes(stream)
    command = [bundled_ffmpeg(), "-loglevel", "error", "-threads", "1", "-f", codec.container, "-i", str(path)]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-"], capture_output=True, check=True)
    height, width = (max(32, -(-side // 8) * 8) for side in (HEIGHT, WIDTH))
    frames = np.frombuffer(raw.stdout, "<u2").reshape(-1, height * width * 3 // 2)
    return [codec.to_picture(frame, (channels, HEIGHT, WIDTH)) for frame in frames]


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gop", GOPS)
@pytest.mark.parametrize("name", NAMES)
def test_access_units_are_the_stream_and_its_samples_those_used(
    name: str, gop: str, channels: int, tmp_path: Path
) -> None:
    pictures, settings = moving(channels), codec(name, gop)
    together = coded(pictures, settings)
    units = [out.pictures[""].coded for out in together]
    assert len(units) == COUNT
    assert [unit.key for unit in units] == [number % PERIOD == 0 for number in range(COUNT)]
    order = range(COUNT) if gop == "low_delay" else _decoding_order(pictures, settings)
    decoded = by_program(b"".join(units[number].data for number in order), settings, channels, tmp_path)
    assert len(decoded) == COUNT
    for picture, out, other in zip(pictures, together, decoded, strict=True):
        np.testing.assert_array_equal(out.pictures[""].decoded, other)
        assert np.mean((other.astype(float) - picture) ** 2) < 60
    later = [unit.bits for unit in units if not unit.key]
    assert np.mean(later) < 0.5 * units[0].bits


def _decoding_order(pictures: list[np.ndarray], settings: VideoCodec) -> list[int]:
    form = PictureFormat((len(pictures[0]), HEIGHT, WIDTH))
    encoder = settings.open_encoder(form, Tools())
    return [unit.number or 0 for picture in pictures for unit in encoder.push(picture)] + [
        unit.number or 0 for unit in encoder.close()
    ]


@pytest.mark.parametrize("gop", GOPS)
@pytest.mark.parametrize("name", NAMES)
def test_the_delay_is_what_is_said(name: str, gop: str) -> None:
    settings = codec(name, gop)
    held = [out.held for out in coded(moving(1), settings)]
    assert len(held) == COUNT
    assert max(held) == settings.delay == (0 if gop == "low_delay" and name != "vvenc" else PERIOD - 1)


@pytest.mark.parametrize("name", NAMES)
def test_under_low_delay_a_picture_depends_on_those_before_it_alone(name: str) -> None:
    one, other = moving(1, 14), moving(1, 14, seed=1)
    whole = coded(one, codec(name, period=14))
    changed = coded([*one[:9], *other[9:]], codec(name, period=14))  # VVenC treats every eighth in a way of its own
    for number in range(9):
        assert whole[number].pictures[""].data == changed[number].pictures[""].data
    assert whole[9].pictures[""].data != changed[9].pictures[""].data


@pytest.mark.parametrize("name", NAMES)
def test_a_key_picture_needs_none_before_it(name: str) -> None:
    settings = codec(name)
    whole = coded(moving(3), settings)
    decoder = settings.open_decoder(PictureFormat((3, HEIGHT, WIDTH)), Tools())
    later = [picture for out in whole[PERIOD:] for picture in decoder.push(out.pictures[""].coded.units)]
    later += decoder.close()
    for out, picture in zip(whole[PERIOD:], later, strict=True):
        np.testing.assert_array_equal(out.pictures[""].decoded, picture)


@pytest.mark.slow
@pytest.mark.parametrize("gop", GOPS)
@pytest.mark.parametrize("name", NAMES)
def test_bits_depend_on_no_threads(name: str, gop: str) -> None:
    one, many = (coded(moving(1), codec(name, gop), Tools(threads=threads)) for threads in (1, 7))
    assert [out.pictures[""].data for out in one] == [out.pictures[""].data for out in many]


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["feature", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_a_still_is_one_intra_picture_under_any_gop(name: str, domain: str) -> None:
    frame = feature_frame(uniform()) if domain == "feature" else image_frame(moving(3)[0], (22, 35))
    alone, *others = (
        transmit(frame, parse(f"{domain}: {name}(qp=40{gop})"), Telemetry(), fidelity=False)
        for gop in ("", ", gop=low_delay", ", gop=random_access, period=8")
    )
    for other in others:
        assert other.bitstreams == alone.bitstreams
        for mine, theirs in zip(other.frame.tensors, alone.frame.tensors, strict=True):
            np.testing.assert_array_equal(mine.data, theirs.data)


@pytest.mark.slow
@pytest.mark.parametrize("gop", ["intra", *GOPS])
@pytest.mark.parametrize("name", NAMES)
def test_a_scaled_picture_costs_less_and_comes_back_at_its_size(name: str, gop: str) -> None:
    pictures = moving(3, 5)
    whole, half = (coded(pictures, codec(name, gop, scale=scale)) for scale in (1, 0.5))
    assert sum(out.pictures[""].bits for out in half) < sum(out.pictures[""].bits for out in whole)
    for picture, out in zip(pictures, half, strict=True):
        decoded = out.pictures[""].decoded
        assert (decoded.shape, decoded.dtype) == (picture.shape, picture.dtype)
        assert abs(decoded.astype(float) - picture).mean() < 18


def test_a_scaled_plane_of_10_bits_stays_in_them() -> None:
    plane = (np.random.default_rng(0).integers(0, 2, (1, 64, 64)) * 1023).astype(np.uint16)
    decoded = code(plane, codec("hevc", "intra", scale=0.75, bit_depth=10)).decoded
    assert decoded.shape == plane.shape
    assert decoded.max() <= 1023


def test_h264_says_nothing_in_words() -> None:
    assert b"x264" not in code(moving(3)[0], codec("h264", "intra")).data
    assert b"x264" not in coded(moving(3), codec("h264"))[0].pictures[""].data


# --- features of a stream ------------------------------------------------------------------------------------------


def slowly() -> list[Frame]:
    """Levels that hardly change, but for their extremes."""
    made = []
    for number in range(6):
        levels = {name: level[:16] for name, level in uniform().items()}
        for level in levels.values():
            level[0, 0, 0] = level.max() + 0.02 * number * np.ptp(level)
        made.append(feature_frame({name: np.tile(level, (16, 1, 1)) for name, level in levels.items()}))
    return made


def sent(text: str) -> list[Transmission]:
    with Stream(parse(text)) as stream:
        return [one for frame in slowly() for one in stream.push(frame, Telemetry())] + stream.close()


def test_ranges_are_kept_from_an_intra_picture_to_the_next() -> None:
    kept = sent("hevc(qp=30, gop=low_delay, period=4)")
    for name in ("p2", "p5"):
        ranges = [one.crossing.tensor(name).ranges for one in kept]
        assert [bool(np.array_equal(pair, ranges[0])) for pair in ranges] == [True] * 4 + [False] * 2
        clean = slowly()[0].tensor(name).data
        assert ranges[0][0, 0] < clean.min()
        assert ranges[0][0, 1] > clean.max()
    assert [one.key for one in kept] == [True, False, False, False, True, False]
    later = np.mean([one.telemetry.bits for one in kept[1:4]])
    assert later < 0.2 * kept[0].telemetry.bits
    assert min(one.fidelity.psnr for one in kept if one.fidelity is not None) > 25


@pytest.mark.slow
def test_stills_keep_the_range_they_have() -> None:
    levels = slowly()[0]
    (first, *_) = sent("hevc(qp=30)")
    ranges = first.crossing.tensor("p2").ranges
    assert ranges is not None
    assert ranges.tolist() == [[levels.tensor("p2").data.min(), levels.tensor("p2").data.max()]]


# --- nothing is left behind ----------------------------------------------------------------------------------------


def nothing_runs() -> bool:
    programs = [child for child in psutil.Process().children(recursive=True) if "ffmpeg" in child.name()]
    return not psutil.wait_procs(programs, timeout=5)[1]


def test_an_encoder_that_takes_too_long_is_ended() -> None:
    with pytest.raises(CodecError):
        coded(moving(3), codec("vvenc", preset="slower"), Tools(timeout_s=0.05))
    assert nothing_runs()


def test_a_cancelled_stream_leaves_no_program() -> None:
    token = cancelling.Token()
    frame = image_frame(np.tile(moving(3)[0], (1, 8, 8)), (22, 35))
    with (
        cancelling.under(token),
        Stream(parse("image: vvenc(preset=slower, gop=low_delay, period=2) @ at=original"), fidelity=False) as stream,
    ):
        stream.push(frame, Telemetry())
        threading.Timer(0.2, token.cancel).start()
        with pytest.raises(AbandonedError):
            stream.push(frame, Telemetry())
    assert nothing_runs()


def test_a_stream_that_is_left_leaves_no_program() -> None:
    for name in NAMES:
        with Stream(parse(f"image: {name}(gop=low_delay) @ at=original")) as stream:
            stream.push(image_frame(moving(3)[0], (22, 35)), Telemetry())
    assert nothing_runs()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_access_unit_is_refused(name: str) -> None:
    decoder = codec(name).open_decoder(PictureFormat((3, HEIGHT, WIDTH)), Tools())
    with pytest.raises(CodecError):  # at once, or at the end of a group
        assert not [*decoder.push((b"\x07nothing of the kind",)), *decoder.close()]
