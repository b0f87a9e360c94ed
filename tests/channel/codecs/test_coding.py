"""Coding is real: the bitstream alone gives the decoded samples, and every failure is loud."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from one_plane import code_plane
from pydantic import Field, TypeAdapter, ValidationError

from featlink.channel.codecs import yuv
from featlink.channel.codecs.av1 import Av1
from featlink.channel.codecs.base import Codec, CodecError, CodedPicture, PictureFormat, PlaneCoder, Tools, code
from featlink.channel.codecs.hevc import Hevc
from featlink.channel.codecs.jpeg import Jpeg
from featlink.channel.codecs.programs import bundled_ffmpeg, ffmpeg_decode
from featlink.channel.codecs.video import VideoCodec
from featlink.channel.codecs.vvenc import Vvenc

Natural = Callable[..., npt.NDArray[np.uint8]]
Program = Callable[[str], str]

CODECS = TypeAdapter(Annotated[Vvenc | Hevc | Av1 | Jpeg, Field(discriminator="type")])
VIDEO = [Vvenc(), Hevc(), Av1()]
ALL = [*VIDEO, Jpeg()]
BEST = [Vvenc(qp=0), Hevc(qp=0), Av1(qp=1), Jpeg(quality=100)]
LADDERS = [
    [Vvenc(qp=qp) for qp in (22, 27, 32, 37, 42, 47)],
    [Hevc(qp=qp) for qp in (22, 27, 32, 37, 42, 47)],
    [Av1(qp=qp) for qp in (10, 20, 30, 40, 50, 60)],
    [Jpeg(quality=quality) for quality in (95, 85, 70, 50, 30, 10)],
]


def each(settings: list) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", settings, ids=lambda item: item.type)


def psnr(plane: np.ndarray, decoded: np.ndarray, peak: int = 255) -> float:
    return float(10 * np.log10(peak**2 / np.mean((plane.astype(float) - decoded) ** 2)))


def ten_bits(settings: VideoCodec) -> VideoCodec:
    return settings.model_copy(update={"bit_depth": 10})


@each(BEST)
def test_best_quality_is_close(settings: Codec, natural: Natural) -> None:
    plane = natural(64, 96)
    decoded = code_plane(plane, settings).decoded
    assert decoded.shape == plane.shape
    assert decoded.dtype == np.uint8
    assert abs(decoded.astype(int) - plane).max() <= 2


@each(BEST[:3])
def test_10_bits_keep_more_than_8(settings: VideoCodec, natural: Natural) -> None:
    plane = natural(64, 96, bit_depth=10)
    decoded = code_plane(plane, ten_bits(settings)).decoded
    assert decoded.dtype == np.uint16
    assert psnr(plane, decoded, peak=1023) > 60  # 8 bits alone end at 58.9 dB


@each([Av1(qp=0), Av1(qp=0, bit_depth=10)])
def test_av1_at_qp_0_is_lossless(settings: Av1, natural: Natural) -> None:
    plane = natural(40, 56, bit_depth=settings.bit_depth)
    np.testing.assert_array_equal(code_plane(plane, settings).decoded, plane)


@pytest.mark.slow
@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: ladder[0].type)
def test_bits_and_psnr_fall_with_quality(ladder: list[Codec], natural: Natural) -> None:
    plane = natural(96, 128)
    coded = [code_plane(plane, settings) for settings in ladder]
    bits = [result.bits for result in coded]
    quality = [psnr(plane, result.decoded) for result in coded]
    assert bits == sorted(set(bits), reverse=True)
    assert quality == sorted(set(quality), reverse=True)


@pytest.mark.parametrize("bit_depth", [8, 10])
@each(VIDEO)
def test_the_kept_bitstream_alone_gives_the_samples(
    settings: VideoCodec, bit_depth: int, natural: Natural, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"bit_depth": bit_depth})
    plane = natural(50, 70, bit_depth)
    coded = code_plane(plane, settings)
    kept, raw = tmp_path / f"plane.{settings.container}", tmp_path / "plane.yuv"
    kept.write_bytes(coded.data)
    assert coded.bits == 8 * kept.stat().st_size
    subprocess.run([bundled_ffmpeg(), "-v", "error", "-i", kept, "-f", "rawvideo", raw], check=True)
    height, width = yuv.padded_size((50, 70))
    luma = np.fromfile(raw, "<u2")[: height * width].reshape(height, width)[:50, :70]
    expected = luma if bit_depth == 10 else np.clip(np.floor(luma / 4 + 0.5), 0, 255)
    np.testing.assert_array_equal(coded.decoded, expected)


def test_the_kept_jpeg_alone_gives_the_samples(natural: Natural, tmp_path: Path) -> None:
    coded = code_plane(natural(50, 70), Jpeg(quality=60))
    kept, raw = tmp_path / "plane.jpg", tmp_path / "plane.grey"
    kept.write_bytes(coded.data)
    assert coded.bits == 8 * kept.stat().st_size
    subprocess.run([bundled_ffmpeg(), "-v", "error", "-i", kept, "-f", "rawvideo", "-pix_fmt", "gray", raw], check=True)
    other = np.fromfile(raw, np.uint8).reshape(50, 70)
    assert abs(coded.decoded.astype(int) - other).max() <= 1  # another inverse DCT


@each(VIDEO)
def test_the_bitstream_is_what_the_encoder_writes_to_a_file(
    settings: VideoCodec, natural: Natural, tmp_path: Path
) -> None:
    plane = natural(64, 96)
    coded = code_plane(plane, settings)
    assert coded.data == encode_to_file(plane, settings.encoder_options(1), tmp_path / "x").read_bytes()


@pytest.mark.parametrize(
    ("settings", "option", "value", "suffix_sei"),
    [
        (Vvenc(qp=30), "-vvenc-params", "SEIDecodedPictureHash=1", 24),
        (Hevc(qp=30), "-x265-params", "hash=1", 40),
    ],
    ids=["vvenc", "hevc"],
)
def test_decoded_samples_are_the_encoders_own_reconstruction(
    settings: VideoCodec, option: str, value: str, suffix_sei: int, natural: Natural, tmp_path: Path
) -> None:
    """The encoder can write the MD5 of what it reconstructed (H.274, clause 8.19) beside the same picture."""
    plane = natural(64, 96, bit_depth=10)
    coded = code_plane(plane, ten_bits(settings))
    options = settings.encoder_options(1)
    if option in options:
        options[options.index(option) + 1] += ":" + value
    else:
        options += [option, value]
    hashed = encode_to_file(plane, options, tmp_path / settings.container).read_bytes()

    def is_hash(nal: bytes) -> bool:
        return (nal[1] >> 3 if settings.container == "vvc" else nal[0] >> 1) == suffix_sei

    assert [nal for nal in nals(hashed) if not is_hash(nal)] == nals(coded.data)
    (message,) = (nal for nal in nals(hashed) if is_hash(nal))
    payload = message[2:].replace(b"\0\0\3", b"\0\0")  # without emulation prevention
    assert payload[0] == 132  # decoded picture hash
    assert hashlib.md5(coded.decoded.astype("<u2").tobytes()).digest() in payload


def encode_to_file(plane: np.ndarray, options: list[str], path: Path) -> Path:
    """Code a plane with a command of our own, which has nothing of the driver's but the encoder's options."""
    luma = plane.astype("<u2") * (4 if plane.dtype == np.uint8 else 1)
    frame = luma.tobytes() + np.full(plane.size // 2, 512, "<u2").tobytes()
    height, width = plane.shape
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", f"{width}x{height}", "-r", "1", "-i", "-"]
    kind = {"libvvenc": "vvc", "libx265": "hevc", "libsvtav1": "obu"}[options[1]]
    command = [bundled_ffmpeg(), "-v", "error", *source, *options, "-f", kind, path]
    subprocess.run(command, input=frame, capture_output=True, check=True)
    return path


def nals(stream: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream."""
    return [nal.rstrip(b"\0") for nal in stream.split(b"\0\0\1")[1:]]


@pytest.mark.parametrize("shape", [(16, 16), (8, 8), (1, 1), (13, 100)])
@each(ALL)
def test_odd_and_tiny_planes(settings: Codec, shape: tuple[int, int], natural: Natural) -> None:
    plane = natural(128, 128)[: shape[0], : shape[1]].copy()
    coded = code_plane(plane, settings)
    assert coded.decoded.shape == shape
    assert psnr(plane, coded.decoded.astype(float) + 1e-3) > 28


@pytest.mark.parametrize("value", [0, 127, 255])
@each(ALL)
def test_constant_planes_cost_little(settings: Codec, value: int) -> None:
    plane = np.full((64, 64), value, np.uint8)
    coded = code_plane(plane, settings)
    assert abs(coded.decoded.astype(int) - plane).max() <= 2
    assert coded.bits < 8 * 450  # nearly all of it headers


@pytest.mark.slow
@each(VIDEO)
def test_bitstream_does_not_depend_on_threads(settings: VideoCodec, natural: Natural) -> None:
    plane = natural(200, 264)
    results = [code_plane(plane, settings, threads=threads) for threads in (1, 2, 4, 0)]
    assert len({result.data for result in results}) == 1
    assert len({result.decoded.tobytes() for result in results}) == 1


@pytest.mark.slow
@each([Vvenc(), Jpeg()])
def test_planes_together_are_as_alone(settings: Codec, natural: Natural) -> None:
    planes = [natural(size, size + 8, seed=size) for size in (16, 96, 40, 64)]
    alone = [code_plane(plane, settings) for plane in planes]
    for cores in (1, 3, 0):
        together = together_coded(planes, settings, Tools(threads=cores))
        assert [result.data for result in together] == [result.data for result in alone]
        assert all(np.array_equal(one.decoded[0], other.decoded) for one, other in zip(together, alone, strict=True))


def test_one_failing_plane_fails_them_all(natural: Natural, program: Program) -> None:
    broken = Tools(ffmpeg=program("exit 1"))
    with pytest.raises(CodecError, match="failed"):
        together_coded([natural(16, 16), natural(24, 24)], Vvenc(), broken)


def together_coded(planes: list[np.ndarray], settings: Codec, tools: Tools) -> list[CodedPicture]:
    pictures = {str(i): plane[None] for i, plane in enumerate(planes)}
    forms = {name: PictureFormat(picture.shape) for name, picture in pictures.items()}
    with PlaneCoder(settings, forms, tools) as coder:
        (coded,) = [*coder.push(pictures), *coder.close()]
    return list(coded.pictures.values())


@each(ALL)
def test_image_keeps_its_colours(settings: Codec, natural: Natural) -> None:
    image = np.stack([natural(70, 90), 255 - natural(70, 90), natural(70, 90, seed=1)])
    image = np.stack([cv2.GaussianBlur(channel, (0, 0), 3) for channel in image])
    coded = code(image, settings)
    assert coded.decoded.shape == image.shape
    assert coded.decoded.dtype == np.uint8
    assert all(psnr(channel, other) > 32 for channel, other in zip(image, coded.decoded, strict=True))


@each(BEST[:3])
def test_image_at_best_quality_loses_what_420_loses(settings: VideoCodec, natural: Natural) -> None:
    image = np.stack([cv2.GaussianBlur(natural(64, 96, seed=seed), (0, 0), 1) for seed in range(3)])
    alone = yuv.to_rgb(yuv.from_rgb(image), (64, 96))
    assert psnr(image, code(image, settings).decoded) == pytest.approx(psnr(image, alone), abs=0.5)


@each(VIDEO)
def test_players_see_the_same_image(settings: VideoCodec, natural: Natural, tmp_path: Path) -> None:
    image = np.stack([cv2.GaussianBlur(natural(64, 96, seed=seed), (0, 0), 3) for seed in range(3)])
    coded = code(image, settings)
    kept = tmp_path / f"image.{settings.container}"
    kept.write_bytes(coded.data)
    convert = ["-vf", "scale=in_color_matrix=bt709:in_range=tv", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    played = subprocess.run(
        [bundled_ffmpeg(), "-v", "error", "-i", kept, *convert], capture_output=True, check=True
    ).stdout
    other = np.frombuffer(played, np.uint8).reshape(64, 96, 3).transpose(2, 0, 1)
    assert psnr(coded.decoded, other) > 36


def test_jpeg_images_are_420(natural: Natural) -> None:
    bitstream = code(np.stack([natural(32, 32)] * 3), Jpeg()).data
    frame_header = bitstream[bitstream.index(b"\xff\xc0") :]  # baseline
    assert [frame_header[11 + 3 * component] for component in range(3)] == [0x22, 0x11, 0x11]


@pytest.mark.parametrize(
    ("plane", "settings"),
    [
        (np.zeros((16, 16), np.uint16), Vvenc()),
        (np.zeros((16, 16), np.uint8), Vvenc(bit_depth=10)),
        (np.full((16, 16), 1024, np.uint16), Vvenc(bit_depth=10)),
        (np.zeros((16, 16), np.uint16), Jpeg()),
        (np.zeros((0, 16), np.uint8), Vvenc()),
        (np.zeros((1, 16, 16), np.uint8), Vvenc()),
    ],
)
def test_planes_of_another_kind_are_refused(plane: np.ndarray, settings: Codec) -> None:
    with pytest.raises(ValueError, match=r"bit|codes"):
        code_plane(plane, settings)


@pytest.mark.parametrize("image", [np.zeros((16, 16, 3), np.uint8), np.zeros((3, 16, 16), np.float32)])
def test_images_of_another_kind_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"or uint8 \(3, H, W\), not"):
        code(image, Vvenc())


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "vvenc", "qp": 64},
        {"type": "vvenc", "preset": "veryslow"},
        {"type": "vvenc", "bit_depth": 9},
        {"type": "vvenc", "crf": 3},
        {"type": "hevc", "qp": 52},
        {"type": "av1", "preset": 14},
        {"type": "jpeg", "quality": 0},
        {"type": "gif"},
    ],
)
def test_settings_are_checked(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CODECS.validate_python(fields)


@each([*VIDEO, Jpeg(quality=3)])
def test_settings_round_trip_as_json(settings: Codec) -> None:
    assert CODECS.validate_json(settings.model_dump_json()) == settings


@each(VIDEO)
@pytest.mark.parametrize("stream", [b"", bytes(range(256)) * 8], ids=["empty", "garbage"])
def test_what_is_no_bitstream_is_refused(settings: VideoCodec, stream: bytes) -> None:
    with pytest.raises(CodecError, match="failed"):
        ffmpeg_decode(stream, settings.container, bundled_ffmpeg(), 1, timeout_s=20)


def test_damaged_vvc_is_refused(natural: Natural) -> None:
    bitstream = code_plane(natural(64, 96), Vvenc()).data
    with pytest.raises(CodecError, match="failed"):
        ffmpeg_decode(bitstream[: len(bitstream) // 2], "vvc", bundled_ffmpeg(), 1, timeout_s=20)


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        ("echo no licence >&2; exit 1", "{}", "failed: no licence$"),
        ("echo oom >&2; kill -9 $$", "{}", "killed by signal 9: oom$"),
        ("cat > /dev/null", "{}", "the vvc encoder gave no bitstream"),
        ("{}", "cat > /dev/null", "decoder gave 0 bytes, not 3072"),
        ("{}", "{} | head -c 1000", "decoder gave 1000 bytes, not 3072"),
        ("{}", "{}; echo more", "decoder gave 3077 bytes, not 3072"),
    ],
)
def test_misbehaving_programs(encoder: str, decoder: str, message: str, program: Program, natural: Natural) -> None:
    tools = Tools(ffmpeg=program(stand_in(encoder, decoder)))
    with pytest.raises(CodecError, match=message):
        code_plane(natural(32, 32), Vvenc(), tools)


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "decoder"), [("sleep 60", "{}"), ("{}", "sleep 60")])
def test_hanging_programs(encoder: str, decoder: str, program: Program, natural: Natural) -> None:
    tools = Tools(timeout_s=3, ffmpeg=program(stand_in(encoder, decoder)))
    with pytest.raises(CodecError, match="took longer than 3 s and was stopped"):
        code_plane(natural(32, 32), Vvenc(), tools)


def stand_in(encoder: str, decoder: str) -> str:
    """A script that does one thing when asked to encode, another when asked to decode; {} is the real thing."""
    real = f'{bundled_ffmpeg()} "$@"'
    return f'case "$*" in *libvvenc*) {encoder.format(real)};; *) {decoder.format(real)};; esac'


def test_missing_ffmpeg(natural: Natural) -> None:
    with pytest.raises(CodecError, match="cannot start ffmpeg"):
        code_plane(natural(16, 16), Vvenc(), Tools(ffmpeg="/nowhere/ffmpeg"))
