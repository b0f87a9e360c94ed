"""VVC (H.266) by VVenC, inside FFmpeg or as Fraunhofer HHI's own programs, vvencapp and vvdecapp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal, TypeVar

from pydantic import Field

from featlink.channel.codecs.base import AccessUnit, CodecError, Coder, Tools
from featlink.channel.codecs.programs import ffmpeg_encode_group, run
from featlink.channel.codecs.video import GroupEncoder, VideoCodec
from featlink.channel.codecs.yuv import Frame, Size, padded_size, taller
from featlink.shared.conditions.registry import register

T = TypeVar("T")

_TOO_LITTLE_ROOM = "Error submitting video frame to the encoder"
"""What FFmpeg says when the bitstream outgrows its buffer."""
_ONE_INTRA = "POC0IDR=1:IntraPeriod=256:Threads=0"
"""Only the first picture of a stream is an intra picture. With a thread of its own, VVenC is not always ready when
FFmpeg asks for what is left, and FFmpeg then leaves pictures out."""
_IN_ORDER = "GOPSize=8:PicReordering=0:DecodingRefreshType=none:MCTFFutureReference=0"
_LOW_DELAY = f"{_ONE_INTRA}:{_IN_ORDER}:NumRefPics=4:IntraQPOffset=-1"
"""VVenC's own configuration of low delay, and VTM's. Every eighth picture is a finer one, and each is predicted from
the last picture and three finer ones. VVenC's fast presets would leave the last one alone, a coarse one, which costs 20
to 30 % more bits. VVenC filters some pictures over time before it codes them: here over those before alone, so that no
picture's bits depend on one behind it."""


@register
class Vvenc(VideoCodec):
    """VVC by VVenC, perceptual QP adaptation off.

    VVenC's low delay neither repeats intra pictures nor gives a picture's access unit at once. So pictures are coded in
    closed groups of ``period`` with either ``gop``, each by one process of FFmpeg, and held back until then.

    Example:
        >>> Vvenc(qp=40).encoder_options(threads=1)[:6]
        ['-c:v', 'libvvenc', '-qp', '40', '-preset', 'faster']
    """

    container: ClassVar[str] = "vvc"
    decoder: ClassVar[str] = "vvc"
    heights: ClassVar[tuple[int, ...]] = (1, 2, 4)
    """FFmpeg gives VVenC a buffer of one byte a luma sample. Noise at the lowest QPs needs more, and gets it with a
    taller frame: the lines added are the last ones again, which costs next to nothing."""

    type: Literal["vvenc"] = "vvenc"
    qp: int = Field(
        default=32,
        ge=0,
        le=63,
        description="VVenC's --qp. An intra picture has a QP lower by 3, with gop=low_delay by 1.",
    )
    preset: Literal["faster", "fast", "medium", "slow", "slower"] = Field(
        default="faster", description="VVenC's --preset, from least to most effort."
    )

    def encoder_options(self, threads: int) -> list[str]:
        """See the base class."""
        options = ["-qp", str(self.qp), "-preset", self.preset, "-qpa", "0", "-threads", str(threads)]
        return ["-c:v", "libvvenc", *options]

    @property
    def in_groups(self) -> bool:
        """See the base class."""
        return self.gop != "intra"

    def open_sequence(self, size: Size, tools: Tools) -> Coder[Frame, AccessUnit]:
        """See the base class."""
        params = _LOW_DELAY if self.gop == "low_delay" else _ONE_INTRA
        options = [*self.encoder_options(1), "-vvenc-params", params]

        def encode(frames: Sequence[Frame]) -> list[AccessUnit]:
            return self._with_room(
                size,
                lambda times, larger: ffmpeg_encode_group(
                    [taller(frame, size, times) for frame in frames],
                    larger,
                    options,
                    self.container,
                    tools.ffmpeg,
                    tools.timeout_s,
                ),
            )

        return GroupEncoder(encode, self.period)

    def _encode_frame(self, frame: Frame, size: Size, tools: Tools) -> bytes:
        if tools.vvencapp is not None:
            return self._encode_by_app(frame, padded_size(size), tools.vvencapp, tools)
        encode = super()._encode_frame
        return self._with_room(size, lambda times, larger: encode(taller(frame, size, times), larger, tools))

    def _with_room(self, size: Size, encode: Callable[[int, Size], T]) -> T:
        """Code in frames of that size, so many times as high as the pictures', that FFmpeg's buffer is large enough."""
        height, width = padded_size(size)
        *heights, most = self.heights
        for times in heights:
            try:
                return encode(times, (times * height, width))
            except CodecError as error:
                if _TOO_LITTLE_ROOM not in str(error):
                    raise
        return encode(most, (most * height, width))

    def _decode_frame(self, bitstream: bytes, tools: Tools) -> bytes:
        if tools.vvdecapp is not None:
            return _decode_by_app(bitstream, tools.vvdecapp, tools)
        # With more threads, FFmpeg's decoder of VVC now and then gives other samples of the same bitstream.
        return super()._decode_frame(bitstream, replace(tools, threads=1))

    # Fraunhofer's programs have no pipe for the bitstream, so it passes through a temporary file.

    def _encode_by_app(self, frame: Frame, padded: Size, program: str, tools: Tools) -> bytes:
        with TemporaryDirectory(prefix="featlink-") as folder:
            path = Path(folder) / "picture.vvc"
            size = f"{padded[1]}x{padded[0]}"
            source = ["--input", "-", "--size", size, "--format", "yuv420_10", "--framerate", "1"]
            options = ["--qp", str(self.qp), "--preset", self.preset, "--qpa", "0", *_threads(tools)]
            run([program, *source, *options, "--output", str(path)], frame.data.cast("B"), tools.timeout_s)
            return _written(path, program)


def _decode_by_app(bitstream: bytes, program: str, tools: Tools) -> bytes:
    with TemporaryDirectory(prefix="featlink-") as folder:
        source, target = Path(folder) / "picture.vvc", Path(folder) / "picture.yuv"
        source.write_bytes(bitstream)
        command = [program, "--bitstream", str(source), "--frames", "1", "--output", str(target)]
        run([*command, *_threads(tools)], b"", tools.timeout_s)
        return _written(target, program)


def _threads(tools: Tools) -> list[str]:
    return ["--threads", str(tools.threads)] if tools.threads else []


def _written(path: Path, program: str) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    if not content:
        raise CodecError(f"{Path(program).name} wrote nothing")
    return content
