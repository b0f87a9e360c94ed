"""Video encoders as codecs of pictures: 10-bit 4:2:0 frames, and programs that code and decode them.

A picture becomes a frame (:func:`from_plane`, :func:`from_rgb`), one process of FFmpeg codes it as an intra picture,
and another decodes the bitstream. :func:`run` is for any codec that is a program: it neither hangs on one nor hides its
failure.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import ClassVar, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.codecs.base import Codec, CodecError, Coder, PictureFormat, Shape, StillCoder, Tools, Units
from featlink.shared import cancelling
from featlink.shared.frames.bitstream import Samples

Buffer = bytes | memoryview
Frame = npt.NDArray[np.uint16]
"""Luma, then Cb, then Cr (FFmpeg's yuv420p10le): a flat array of H·W·3/2 little-endian samples in 0..1023.

Its sides are padded by edge replication to a multiple of 8, and to at least 32: encoders refuse less than 16, and
FFmpeg's buffer for VVenC, one byte a luma sample, would not hold the headers.
"""
Size = tuple[int, int]

GREY = 512
"""The chroma value that means no colour."""

_MOST_MEMORY = 8 << 30
_MOST_FILE = 1 << 30
_PIXELS = ("-f", "rawvideo", "-pix_fmt", "yuv420p10le")
_KR, _KB = 0.2126, 0.0722  # BT.709's luma weights of red and blue
_KG = 1 - _KR - _KB
_TO_YCBCR = np.array(
    [
        [_KR, _KG, _KB],
        [-_KR / (2 - 2 * _KB), -_KG / (2 - 2 * _KB), 0.5],
        [0.5, -_KG / (2 - 2 * _KR), -_KB / (2 - 2 * _KR)],
    ]
) * (np.array([[876], [896], [896]]) / 255)  # 8-bit full range to 10-bit limited range: 64..940 and 64..960
_ZERO = np.array([64.0, GREY, GREY])


class VideoCodec(Codec):
    """An encoder of FFmpeg.

    Features go into luma with constant chroma, images are converted to BT.709 4:2:0 of 10 bits.
    """

    strength: ClassVar[str | None] = "qp"
    heights: ClassVar[tuple[int, ...]] = (1,)
    """How many times as high as the picture's frame a coded one may be; the bitstream says which it is."""

    type: str
    qp: int
    bit_depth: Literal[8, 10] = Field(
        default=8, description="Bits per sample of a plane of features. The bitstream always has 10; images have 8."
    )

    def depth(self, bits: int, image: bool) -> int:
        """See the base class."""
        return 8 if image else self.bit_depth

    @abstractmethod
    def encoder_options(self, threads: int) -> list[str]:
        """FFmpeg's encoder options, from ``-c:v`` on.

        Args:
            threads: the encoder's threads, 0 for one per core.
        """

    def open_encoder(self, form: PictureFormat, tools: Tools) -> Coder[Samples, Units]:
        """See the base class."""
        return StillCoder(lambda picture: (self._encode(picture, tools),))

    def open_decoder(self, form: PictureFormat, tools: Tools) -> Coder[Units, Samples]:
        """See the base class."""
        return StillCoder(lambda units: self._decode(b"".join(units), form.shape, tools))

    def _encode(self, picture: Samples, tools: Tools) -> bytes:
        _, height, width = picture.shape
        if len(picture) == 1:
            frame = from_plane(picture[0], self.bit_depth)
        else:
            frame = from_rgb(picture.astype(np.uint8, copy=False))
        return self._encode_frame(frame, (height, width), tools)

    def _decode(self, bitstream: bytes, shape: Shape, tools: Tools) -> Samples:
        channels, *size = shape
        height, width = size
        decoded = self._decode_frame(bitstream, tools)
        times, rest = divmod(len(decoded), frame_bytes((height, width)))
        if rest or times not in self.heights:
            raise CodecError(f"the {self.type} decoder gave {len(decoded)} bytes, not {frame_bytes((height, width))}")
        frame = shorter(np.frombuffer(decoded, "<u2"), (height, width), times)
        if channels == 1:
            return to_plane(frame, (height, width), self.bit_depth)[None]
        return to_rgb(frame, (height, width))

    def _encode_frame(self, frame: Frame, size: Size, tools: Tools) -> bytes:
        """Code the frame of a picture of this size."""
        options = self.encoder_options(tools.threads)
        data = frame.data.cast("B")
        return ffmpeg_encode(data, padded_size(size), options, self.container, tools.ffmpeg, tools.timeout_s)

    def _decode_frame(self, bitstream: bytes, tools: Tools) -> bytes:
        return ffmpeg_decode(bitstream, self.container, tools.ffmpeg, tools.threads, tools.timeout_s)


# Frames.


def padded_size(size: Size) -> Size:
    """The (height, width) of the frame that carries a picture of this (height, width).

    Example:
        >>> padded_size((13, 800))
        (32, 800)
    """
    height, width = (max(32, -(-side // 8) * 8) for side in size)
    return height, width


def frame_bytes(size: Size) -> int:
    """Bytes of the frame that carries a picture of this (height, width).

    Example:
        >>> frame_bytes((16, 16))
        3072
    """
    height, width = padded_size(size)
    return height * width * 3


def taller(frame: Frame, size: Size, times: int) -> Frame:
    """A frame of so many times the height, its last lines repeated below.

    Args:
        frame: of a picture of this size.
        size: (height, width) of the picture.
        times: how often.
    """
    return np.concatenate(
        [np.pad(p, ((0, (times - 1) * len(p)), (0, 0)), "edge").ravel() for p in _planes(frame, size)]
    )


def shorter(frame: Frame, size: Size, times: int) -> Frame:
    """Undo :func:`taller`."""
    height, width = padded_size(size)
    return np.concatenate([p[: len(p) // times].ravel() for p in _planes(frame, (times * height, width))])


def _planes(frame: Frame, size: Size) -> list[Frame]:
    height, width = padded_size(size)
    luma, chroma = np.split(frame, [height * width])
    halves = np.split(chroma, 2)
    return [luma.reshape(height, width), *(half.reshape(height // 2, width // 2) for half in halves)]


def from_plane(plane: Samples, bit_depth: int) -> Frame:
    """Put a plane into luma, with constant chroma.

    Args:
        plane: shape (H, W), uint8 or uint16, values in 0..2**bit_depth - 1.
        bit_depth: 8 or 10; samples are shifted up to 10 bits.
    """
    frame, luma = _empty(plane.shape[0], plane.shape[1])
    luma[...] = np.pad(plane, _padding(plane.shape[0], plane.shape[1]), mode="edge")
    luma <<= 10 - bit_depth
    return frame


def to_plane(frame: Frame, size: Size, bit_depth: int) -> Samples:
    """Undo :func:`from_plane`, rounding to nearest.

    Args:
        frame: as made for this size.
        size: (H, W).
        bit_depth: 8 or 10.

    Returns:
        Shape (H, W), uint8 for 8 bits, uint16 for 10.
    """
    luma = _luma(frame, size)[: size[0], : size[1]]
    if bit_depth == 10:
        return luma.copy()
    rounded: npt.NDArray[np.uint8] = np.minimum((luma + 2) >> 2, 255).astype(np.uint8)
    return rounded


def from_rgb(image: npt.NDArray[np.uint8]) -> Frame:
    """Convert an image to BT.709 Y'CbCr (Rec. ITU-R BT.709-6), limited range, 4:2:0.

    A chroma sample is the mean of the 2 by 2 pixels it stands for, so it sits in their middle (chroma
    sample location type 1 of H.273). Limited range is what players take an unlabelled stream for.

    Args:
        image: shape (3, H, W), RGB.
    """
    height, width = image.shape[1:]
    pixels = np.pad(image.transpose(1, 2, 0), (*_padding(height, width), (0, 0)), mode="edge")
    ycbcr = cv2.transform(pixels.astype(np.float32), np.column_stack([_TO_YCBCR, _ZERO]))
    frame, luma = _empty(height, width)
    luma[...] = np.rint(ycbcr[..., 0])
    half = (luma.shape[1] // 2, luma.shape[0] // 2)
    chroma = cv2.resize(ycbcr[..., 1:], half, interpolation=cv2.INTER_AREA)
    frame[luma.size :] = np.rint(chroma).transpose(2, 0, 1).reshape(-1)
    return frame


def to_rgb(frame: Frame, size: Size) -> npt.NDArray[np.uint8]:
    """Undo :func:`from_rgb`; chroma is interpolated bicubically.

    4:2:0 loses colour detail: 35 to 45 dB of PSNR remain on photographs.

    Args:
        frame: as made for this size.
        size: (H, W).

    Returns:
        Shape (3, H, W), RGB.
    """
    height, width = padded_size(size)
    chroma = frame[height * width :].reshape(2, height // 2, width // 2).transpose(1, 2, 0)
    full = cv2.resize(chroma.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    ycbcr = np.dstack([_luma(frame, size).astype(np.float32), full])
    to_rgb = np.linalg.inv(_TO_YCBCR)
    pixels = cv2.transform(ycbcr, np.column_stack([to_rgb, -to_rgb @ _ZERO]))
    image = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[: size[0], : size[1]]
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _empty(height: int, width: int) -> tuple[Frame, Frame]:
    """A grey frame and the (padded height, padded width) view of its luma."""
    frame: Frame = np.full(frame_bytes((height, width)) // 2, GREY, "<u2")
    return frame, _luma(frame, (height, width))


def _luma(frame: Frame, size: Size) -> Frame:
    height, width = padded_size(size)
    return frame[: height * width].reshape(height, width)


def _padding(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    padded = padded_size((height, width))
    return (0, padded[0] - height), (0, padded[1] - width)


# FFmpeg.


def ffmpeg_encode(
    frame: Buffer, size: Size, options: Sequence[str], container: str, ffmpeg: str | None, timeout_s: float
) -> bytes:
    """Code one 10-bit 4:2:0 frame as a single intra picture.

    Args:
        frame: its samples.
        size: (height, width) of the frame.
        options: the encoder's, from ``-c:v`` on.
        container: FFmpeg's name of the elementary stream's format.
        ffmpeg: the program; None for the bundled one.
        timeout_s: seconds until the encoder is killed.

    Returns:
        An elementary stream that any decoder of the standard reads.

    Raises:
        CodecError: see :func:`run`; or the bitstream is empty.
    """
    # One picture a second makes it an intra-only sequence, which has the shortest headers.
    source = [*_PIXELS, "-video_size", f"{size[1]}x{size[0]}", "-framerate", "1", "-i", "pipe:0"]
    with TemporaryFile() as file:  # not standard output: libvvenc prints its warnings there
        target = [*options, "-f", container, f"pipe:{file.fileno()}"]
        run([*_quiet(ffmpeg), *source, *target], frame, timeout_s, pass_fds=[file.fileno()])
        file.seek(0)
        bitstream = file.read()
    if not bitstream:
        raise CodecError(f"the {container} encoder gave no bitstream")
    return bitstream


def ffmpeg_decode(bitstream: bytes, container: str, ffmpeg: str | None, threads: int, timeout_s: float) -> bytes:
    """Decode the first picture of an elementary stream.

    Args:
        bitstream: the whole stream.
        container: its format, ``vvc``, ``hevc`` or ``obu``.
        ffmpeg: the program; None for the bundled one.
        threads: the decoder's threads, 0 for one per core.
        timeout_s: seconds until the decoder is killed.

    Returns:
        Its 10-bit 4:2:0 samples.

    Raises:
        CodecError: see :func:`run`; damage that the decoder notices is a failure
            (an entropy-coded stream with a flipped bit is often just another valid stream).
    """
    source = ["-threads", str(threads), "-xerror", "-err_detect", "explode", "-f", container, "-i", "pipe:0"]
    return run([*_quiet(ffmpeg), *source, "-frames:v", "1", *_PIXELS, "pipe:1"], bitstream, timeout_s)


def bundled_ffmpeg() -> str:
    """The FFmpeg of the ``imageio-ffmpeg`` package, which has all the encoders used here.

    Raises:
        CodecError: the package has none for this platform.
    """
    import imageio_ffmpeg  # takes 0.2 s, and only coding needs it

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise CodecError(f"no FFmpeg: {error}") from error


def _quiet(ffmpeg: str | None) -> list[str]:
    return [ffmpeg or bundled_ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error"]


# Programs.


def run(command: Sequence[str], data: Buffer, timeout_s: float, pass_fds: Sequence[int] = ()) -> bytes:
    """Give a program its standard input and take its standard output.

    The program works in a private folder that is deleted after it, under limits on its memory, its processor time and
    the files it writes. It gets a process group of its own, which is killed and reaped whenever this function
    leaves early, so that neither it nor a child of it is left behind.

    Args:
        command: the program and its arguments.
        data: what it reads on standard input; a memoryview must be of bytes.
        timeout_s: seconds until it is killed.
        pass_fds: further file descriptors that it may use.

    Returns:
        What it wrote on standard output.

    Raises:
        AbandonedError: nobody wants the output any more; the program was killed.
        CodecError: it cannot be started, took longer, was killed or returned non-zero; the message
            carries the first and the last line of its standard error.

    Example:
        >>> run(["cat"], b"bits", timeout_s=5)
        b'bits'
    """
    with TemporaryDirectory(prefix="featlink-") as folder:
        return _run(command, data, timeout_s, pass_fds, folder)


def _run(command: Sequence[str], data: Buffer, timeout_s: float, pass_fds: Sequence[int], folder: str) -> bytes:
    name = Path(command[0]).name
    program = os.path.abspath(command[0]) if os.path.dirname(command[0]) else command[0]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            [program, *command[1:]],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            pass_fds=pass_fds,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise CodecError(f"cannot start {name}: {error.strerror}") from error
    _limit(process.pid, timeout_s)

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    with process:
        try:
            with cancelling.current().stopping(kill):
                output, errors = process.communicate(cast(bytes, data), timeout=timeout_s)
        except BaseException as error:
            kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CodecError(f"{name} took longer than {timeout_s:g} s and was stopped") from None
            raise
    if process.returncode:
        how = f"was killed by signal {-process.returncode}" if process.returncode < 0 else "failed"
        raise CodecError(f"{name} {how}: {_summary(errors)}")
    return output


def _limit(pid: int, timeout_s: float) -> None:
    """Bound what a program may take; its time is bounded on the clock as well."""
    seconds = math.ceil(timeout_s * (os.cpu_count() or 1)) + 1
    limits = {
        resource.RLIMIT_DATA: _MOST_MEMORY,
        resource.RLIMIT_FSIZE: _MOST_FILE,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        with suppress(OSError, ValueError):  # it has ended already, or a lower limit is set for all programs
            resource.prlimit(pid, kind, (most, most))


def _summary(errors: bytes) -> str:
    """The first line, where FFmpeg names the cause, and the last, where most programs do."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else "it said nothing"
