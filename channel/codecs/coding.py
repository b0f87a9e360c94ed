"""Code planes and images for real: encode, keep the bitstream, decode that bitstream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from channel.codecs import ffmpeg, jpeg, vvcapps, yuv
from channel.codecs.av1 import Av1
from channel.codecs.hevc import Hevc
from channel.codecs.jpeg import Jpeg
from channel.codecs.process import CodecError
from channel.codecs.vvenc import Vvenc
from shared.bitstream import Samples

Codec = Vvenc | Hevc | Av1 | Jpeg
Settings = Annotated[Codec, Field(discriminator="type")]

_Output = TypeVar("_Output")


@dataclass(frozen=True)
class Tools:
    """The programs that code, and how long each may take.

    Attributes:
        timeout_s: seconds after which one encoder or decoder is killed.
        threads: cores to use; 0 for all.
        ffmpeg: path; None for the one bundled with ``imageio-ffmpeg``.
        vvencapp: path; None to let FFmpeg encode VVC.
        vvdecapp: path; None to let FFmpeg decode VVC.
    """

    timeout_s: float = 600.0
    threads: int = 0
    ffmpeg: str | None = None
    vvencapp: str | None = None
    vvdecapp: str | None = None


DEFAULT_TOOLS = Tools()


@dataclass(frozen=True)
class Coded:
    """What coding gave.

    Attributes:
        bitstream: an elementary stream (or a .jpg file), all that the decoder was given.
        decoded: what the decoder made of it, in the shape and dtype of the input.
        encode_ms: wall time of the encoder, its process included.
        decode_ms: wall time of the decoder, its process included.
    """

    bitstream: bytes
    decoded: Samples
    encode_ms: float
    decode_ms: float

    @property
    def bits(self) -> int:
        """Size of the bitstream."""
        return 8 * len(self.bitstream)


def code_plane(plane: Samples, settings: Settings, tools: Tools = DEFAULT_TOOLS, threads: int = 0) -> Coded:
    """Code one plane of features as the luma of one intra picture (chroma constant, and counted).

    Args:
        plane: shape (H, W), uint8 for 8 bits, uint16 in 0..1023 for 10.
        settings: the codec and its quality.
        tools: programs and time-out.
        threads: of the encoder and the decoder, 0 for one a core. The bitstream does not depend on it.

    Raises:
        ValueError: the plane is empty, not 2-D, or not of ``settings.bit_depth`` bits.
        CodecError: an encoder or decoder failed.
    """
    _check(plane, settings.bit_depth)
    if isinstance(settings, Jpeg):
        return Coded(*_code_jpeg(plane.astype(np.uint8, copy=False), settings))
    size = (plane.shape[0], plane.shape[1])
    frame = yuv.from_plane(plane, settings.bit_depth)
    bitstream, decoded, encode_ms, decode_ms = _code_frame(frame, size, settings, tools, threads)
    return Coded(bitstream, yuv.to_plane(decoded, size, settings.bit_depth), encode_ms, decode_ms)


def code_rgb(image: npt.NDArray[np.uint8], settings: Settings, tools: Tools = DEFAULT_TOOLS, threads: int = 0) -> Coded:
    """Code one image as one intra picture, in BT.709 4:2:0 of 10 bits (JPEG: its own Y'CbCr 4:2:0 of 8 bits).

    Args:
        image: shape (3, H, W), uint8, RGB.
        settings: the codec and its quality; its ``bit_depth`` is for planes.
        tools: programs and time-out.
        threads: as for :func:`code_plane`.

    Raises:
        ValueError: not such an image.
        CodecError: an encoder or decoder failed.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.size == 0 or image.dtype != np.uint8:
        raise ValueError(f"an image must be uint8 (3, H, W), not {image.dtype} {image.shape}")
    if isinstance(settings, Jpeg):
        bgr = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
        bitstream, pixels, encode_ms, decode_ms = _code_jpeg(bgr, settings)
        return Coded(bitstream, np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)), encode_ms, decode_ms)
    size = (image.shape[1], image.shape[2])
    bitstream, decoded, encode_ms, decode_ms = _code_frame(yuv.from_rgb(image), size, settings, tools, threads)
    return Coded(bitstream, yuv.to_rgb(decoded, size), encode_ms, decode_ms)


def code_planes(
    planes: Sequence[Samples],
    settings: Settings,
    tools: Tools = DEFAULT_TOOLS,
) -> list[Coded]:
    """Code several planes side by side, each as :func:`code_plane` does.

    The largest starts first, and each gets threads by its share of the samples, so that all cores stay
    busy to the end although p2 has three quarters of a pyramid's samples.

    Args:
        planes: as for :func:`code_plane`.
        settings: of every plane.
        tools: programs, time-out and cores.

    Returns:
        One result a plane, in the order given; the same bitstreams on any number of cores.

    Raises:
        ValueError: a plane is not as :func:`code_plane` wants it.
        CodecError: an encoder or decoder failed; planes not yet begun are then left out.
    """
    for plane in planes:
        _check(plane, settings.bit_depth)
    workers = tools.threads or os.cpu_count() or 1
    total = sum(plane.size for plane in planes)
    largest_first = sorted(range(len(planes)), key=lambda index: -planes[index].size)
    with ThreadPoolExecutor(workers) as pool:
        jobs = {
            index: pool.submit(
                code_plane, planes[index], settings, tools, max(1, round(workers * planes[index].size / total))
            )
            for index in largest_first
        }
        try:
            return [jobs[index].result() for index in range(len(planes))]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _check(plane: Samples, bit_depth: int) -> None:
    expected = np.uint8 if bit_depth == 8 else np.uint16
    if plane.ndim != 2 or plane.size == 0 or plane.dtype != expected:
        raise ValueError(f"a {bit_depth}-bit plane must be {expected.__name__} (H, W), not {plane.dtype} {plane.shape}")
    if bit_depth == 10 and plane.max() > 1023:
        raise ValueError("a sample does not fit into 10 bits")


def _code_frame(
    frame: yuv.Frame, picture: yuv.Size, settings: Vvenc | Hevc | Av1, tools: Tools, threads: int
) -> tuple[bytes, yuv.Frame, float, float]:
    """Encode a frame and decode its bitstream: bitstream, decoded frame, and the two times in ms."""
    size = yuv.padded_size(picture)
    program = tools.ffmpeg or ffmpeg.bundled()
    samples = frame.data.cast("B")

    def encode() -> bytes:
        if isinstance(settings, Vvenc) and tools.vvencapp:
            return vvcapps.encode(samples, size, settings, tools.vvencapp, threads, tools.timeout_s)
        return ffmpeg.encode(samples, size, settings, program, threads, tools.timeout_s)

    def decode() -> bytes:
        if isinstance(settings, Vvenc) and tools.vvdecapp:
            return vvcapps.decode(bitstream, tools.vvdecapp, threads, tools.timeout_s)
        return ffmpeg.decode(bitstream, settings.container, program, threads, tools.timeout_s)

    bitstream, encode_ms = _timed(encode)
    decoded, decode_ms = _timed(decode)
    if len(decoded) != frame.nbytes:
        raise CodecError(f"the {settings.type} decoder gave {len(decoded)} bytes, not {frame.nbytes}")
    return bitstream, np.frombuffer(decoded, "<u2"), encode_ms, decode_ms


def _code_jpeg(pixels: jpeg.U8, settings: Jpeg) -> tuple[bytes, jpeg.U8, float, float]:
    bitstream, encode_ms = _timed(lambda: jpeg.encode(pixels, settings))
    decoded, decode_ms = _timed(lambda: jpeg.decode(bitstream, pixels.shape))
    return bitstream, decoded, encode_ms, decode_ms


def _timed(action: Callable[[], _Output]) -> tuple[_Output, float]:
    start = time.perf_counter()
    output = action()
    return output, (time.perf_counter() - start) * 1000
