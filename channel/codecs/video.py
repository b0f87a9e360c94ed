"""Video encoders as codecs: pictures by themselves through a program, or coded from one another.

A picture becomes a frame (:mod:`featlink.channel.codecs.yuv`). With ``gop=intra`` one process of FFmpeg codes it as an
intra picture, and another decodes the bitstream. Otherwise encoders and decoders see the frames of a sequence:

- ``low_delay``: a picture is coded from those before it, and its access unit is there before the next picture is given.
- ``random_access``: pictures are coded from those before and behind them, in closed groups of ``period``.

Both ends run on one thread, in process, by FFmpeg's libraries as PyAV has them.
"""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.codecs.base import (
    AccessUnit,
    Codec,
    CodecError,
    Coder,
    PictureFormat,
    Shape,
    StillCoder,
    Tools,
    Units,
)
from featlink.channel.codecs.programs import ffmpeg_decode, ffmpeg_encode
from featlink.channel.codecs.yuv import (
    GREY,
    Frame,
    Size,
    frame_bytes,
    from_plane,
    from_rgb,
    padded_size,
    shorter,
    to_plane,
    to_rgb,
)
from featlink.shared import cancelling
from featlink.shared.frames.bitstream import Samples

if TYPE_CHECKING:  # takes 0.2 s to import, and only sequences need it
    import av

Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
]
"""x264's and x265's, from least to most effort."""

_PIXELS = "yuv420p10le"
"""Of frames; an encoder may be given others."""
_RATE = 25
"""Pictures a second that encoders are told; at constant QP nothing depends on it."""


class VideoCodec(Codec):
    """A video encoder of FFmpeg's.

    Features go into luma with constant chroma, images are converted to BT.709 4:2:0 of 10 bits.
    """

    strength: ClassVar[str | None] = "qp"
    heights: ClassVar[tuple[int, ...]] = (1,)
    """How many times as high as the picture's frame a coded one may be; the bitstream says which it is."""
    decoder: ClassVar[str]
    """FFmpeg's name of the decoder of sequences."""

    type: str
    qp: int
    bit_depth: Literal[8, 10] = Field(
        default=8, description="Bits per sample of a plane of features. The bitstream always has 10; images have 8."
    )
    scale: float = Field(
        default=1,
        ge=0.125,
        le=1,
        description="Sides of the coded picture, in parts of the given one's. The receiver scales back.",
        examples=[1, 0.5, 0.75],
    )
    gop: Literal["intra", "low_delay", "random_access"] = Field(
        default="intra",
        description="How pictures of a sequence are coded: each alone; from those before it; or also from those behind "
        "it, in closed groups of `period`. A still is coded alone.",
    )
    period: int = Field(default=32, ge=1, le=256, description="Pictures from one intra picture to the next.")

    def depth(self, bits: int, image: bool) -> int:
        """See the base class."""
        return 8 if image else self.bit_depth

    @property
    def prediction_period(self) -> int:
        """See the base class."""
        return 1 if self.gop == "intra" else self.period

    @property
    def in_groups(self) -> bool:
        """Whether `period` pictures are coded together, at once."""
        return self.gop == "random_access"

    @property
    def delay(self) -> int:
        """See the base class."""
        return self.period - 1 if self.in_groups else 0

    def for_stills(self) -> Self:
        """See the base class: coded alone."""
        return self.model_copy(update={"gop": "intra"})

    def units(self, access_unit: bytes) -> tuple[Units, int]:
        """The parts of an access unit that decode alone, and how many of the first are parameters: one, and none."""
        return (access_unit,), 0

    @abstractmethod
    def encoder_options(self, threads: int) -> list[str]:
        """FFmpeg's encoder options for a picture alone, from ``-c:v`` on.

        Args:
            threads: the encoder's threads, 0 for one per core.
        """

    @abstractmethod
    def open_sequence(self, size: Size, tools: Tools) -> Coder[Frame, AccessUnit]:
        """Begin a sequence of frames at the sender.

        Args:
            size: (height, width) of the pictures; the frames' is :func:`padded_size` of it.
            tools: programs and time-out.
        """

    def open_encoder(self, form: PictureFormat, tools: Tools) -> Coder[Samples, AccessUnit]:
        """See the base class."""
        if self.gop == "intra":
            return StillCoder(lambda picture: self._in_units(AccessUnit((self._encode(picture, tools),))))
        return _PictureEncoder(self, self._in_units, self.open_sequence(self._coded_size(form.shape), tools))

    def open_decoder(self, form: PictureFormat, tools: Tools) -> Coder[Units, Samples]:
        """See the base class."""
        if self.gop == "intra":
            return StillCoder(lambda units: self._decode_units(units, form.shape, tools))
        return _PictureDecoder(self, form.shape, SequenceDecoder(self.decoder, self.period if self.delay else 1))

    def to_frame(self, picture: Samples) -> Frame:
        """The frame of a plane of features (1, H, W) or of an image (3, H, W), scaled down by areas."""
        if self.scale != 1:
            picture = _resized(picture, self._coded_size(picture.shape), cv2.INTER_AREA)
        if len(picture) == 1:
            return from_plane(picture[0], self.bit_depth)
        return from_rgb(picture.astype(np.uint8, copy=False))

    def to_picture(self, decoded: npt.NDArray[np.unsignedinteger[Any]], shape: Shape) -> Samples:
        """Undo :meth:`to_frame`; scaling up is bicubic.

        Args:
            decoded: a frame, or its bytes.
            shape: (C, H, W) of the picture.

        Raises:
            CodecError: the frame is of none of the sizes that it may have.
        """
        size = self._coded_size(shape)
        times, rest = divmod(decoded.nbytes, frame_bytes(size))
        if rest or times not in self.heights:
            raise CodecError(f"the {self.type} decoder gave {decoded.nbytes} bytes, not {frame_bytes(size)}")
        frame = shorter(decoded.view("<u2"), size, times)
        picture = to_plane(frame, size, self.bit_depth)[None] if shape[0] == 1 else to_rgb(frame, size)
        if self.scale == 1:
            return picture
        peak = 255 if shape[0] == 3 else (1 << self.bit_depth) - 1
        return _resized(picture, shape[1:], cv2.INTER_CUBIC).clip(0, peak)

    def _coded_size(self, shape: tuple[int, ...]) -> Size:
        height, width = (math.ceil(side * self.scale) for side in shape[1:])
        return height, width

    def _in_units(self, access_unit: AccessUnit) -> AccessUnit:
        units, parameters = self.units(access_unit.data)
        return replace(access_unit, units=units, parameters=parameters)

    def _decode_units(self, units: Units, shape: Shape, tools: Tools) -> Samples:
        if all(units):
            return self._decode(b"".join(units), shape, tools)
        (frame,) = SequenceDecoder(self.decoder, 1).push(units)
        return self.to_picture(frame, shape)

    def _encode(self, picture: Samples, tools: Tools) -> bytes:
        return self._encode_frame(self.to_frame(picture), self._coded_size(picture.shape), tools)

    def _decode(self, bitstream: bytes, shape: Shape, tools: Tools) -> Samples:
        return self.to_picture(np.frombuffer(self._decode_frame(bitstream, tools), np.uint8), shape)

    def _encode_frame(self, frame: Frame, size: Size, tools: Tools) -> bytes:
        """Code the frame of a picture of this size."""
        options = self.encoder_options(tools.threads)
        data = frame.data.cast("B")
        return ffmpeg_encode(data, padded_size(size), options, self.container, tools.ffmpeg, tools.timeout_s)

    def _decode_frame(self, bitstream: bytes, tools: Tools) -> bytes:
        return ffmpeg_decode(bitstream, self.container, tools.ffmpeg, tools.threads, tools.timeout_s)


def _resized(picture: Samples, size: Size, interpolation: int) -> Samples:
    planes = [cv2.resize(plane, size[::-1], interpolation=interpolation) for plane in picture]
    return np.stack(planes).astype(picture.dtype, copy=False)


class _PictureEncoder(Coder[Samples, AccessUnit]):
    """Pictures to frames, then what codes those, then their access units in units that decode alone."""

    def __init__(
        self, codec: VideoCodec, in_units: Callable[[AccessUnit], AccessUnit], inner: Coder[Frame, AccessUnit]
    ) -> None:
        self._codec, self._in_units, self._inner = codec, in_units, inner

    def push(self, given: Samples) -> Sequence[AccessUnit]:
        """See the base class."""
        return [*map(self._in_units, self._inner.push(self._codec.to_frame(given)))]

    def close(self) -> Sequence[AccessUnit]:
        """See the base class."""
        return [*map(self._in_units, self._inner.close())]


class _PictureDecoder(Coder[Units, Samples]):
    """What decodes frames, then frames to pictures."""

    def __init__(self, codec: VideoCodec, shape: Shape, inner: Coder[Units, Frame]) -> None:
        self._codec, self._shape, self._inner = codec, shape, inner

    def push(self, given: Units) -> Sequence[Samples]:
        """See the base class."""
        return [self._codec.to_picture(frame, self._shape) for frame in self._inner.push(given)]

    def close(self) -> Sequence[Samples]:
        """See the base class."""
        return [self._codec.to_picture(frame, self._shape) for frame in self._inner.close()]


# Encoders and decoders of sequences.


@dataclass(frozen=True)
class EncoderSetup:
    """An encoder of FFmpeg's libraries.

    Attributes:
        name: FFmpeg's.
        options: its private ones.
        pixels: FFmpeg's name of the format that it takes.
        clean: what is done to each access unit, e.g. to take out text that no decoder reads.
    """

    name: str
    options: Mapping[str, str]
    pixels: str = _PIXELS
    clean: Callable[[bytes], bytes] = bytes


def open_in_process(codec: VideoCodec, setup: EncoderSetup, size: Size) -> Coder[Frame, AccessUnit]:
    """A codec's encoder for sequences, by FFmpeg's libraries.

    Args:
        codec: says how pictures are coded.
        setup: the encoder.
        size: (height, width) of the pictures.
    """
    if codec.in_groups:
        return GroupEncoder(lambda frames: _group(setup, size, frames), codec.period)
    return LowDelayEncoder(setup, size)


class LowDelayEncoder(Coder[Frame, AccessUnit]):
    """One encoder in process that gives a frame's access unit before the next frame.

    Args:
        setup: the encoder.
        size: (height, width) of the pictures.
    """

    def __init__(self, setup: EncoderSetup, size: Size) -> None:
        self._setup, self._size, self._number = setup, size, 0
        self._context = _encoder(setup, size)

    def push(self, given: Frame) -> Sequence[AccessUnit]:
        """See the base class."""
        cancelling.current().check()
        number, self._number = self._number, self._number + 1
        coded = _packets(self._context, self._setup, _video_frame(given, self._size, number, self._setup.pixels))
        if [unit.number for unit in coded] != [number]:
            raise CodecError(f"{self._setup.name} gave {len(coded)} access units for a frame, not its own")
        return coded

    def close(self) -> Sequence[AccessUnit]:
        """See the base class."""
        return _packets(self._context, self._setup, None)


class GroupEncoder(Coder[Frame, AccessUnit]):
    """Codes each so many frames together, in a stream of their own.

    Args:
        encode: codes a group; access units in the order in which they are decoded, numbered from 0.
        period: frames in a group; the last may have fewer.
    """

    def __init__(self, encode: Callable[[Sequence[Frame]], Sequence[AccessUnit]], period: int) -> None:
        self._encode, self._period = encode, period
        self._frames: list[Frame] = []
        self._first = 0

    def push(self, given: Frame) -> Sequence[AccessUnit]:
        """See the base class."""
        self._frames.append(given)
        return self.close() if len(self._frames) == self._period else ()

    def close(self) -> Sequence[AccessUnit]:
        """See the base class."""
        if not self._frames:
            return ()
        frames, self._frames = self._frames, []
        first, self._first = self._first, self._first + len(frames)
        return [replace(unit, number=first + (unit.number or 0)) for unit in self._encode(frames)]


def _group(setup: EncoderSetup, size: Size, frames: Sequence[Frame]) -> list[AccessUnit]:
    context = _encoder(setup, size)
    coded = []
    for number, frame in enumerate(frames):
        cancelling.current().check()
        coded += _packets(context, setup, _video_frame(frame, size, number, setup.pixels))
    return coded + _packets(context, setup, None)


class SequenceDecoder(Coder[Units, Frame]):
    """A decoder in process. From the first access unit of which units are missing on, it makes do with what it gets.

    Args:
        name: FFmpeg's.
        group: access units after which a new stream begins, if pictures are coded in another order than they come out;
            1 where each access unit gives its picture at once.
    """

    def __init__(self, name: str, group: int) -> None:
        self._name, self._group, self._taken = name, group, 0
        self._harmed = False
        self._last: Frame | None = None
        self._context = self._opened()

    def _opened(self) -> av.VideoCodecContext:
        import av

        context = cast("av.VideoCodecContext", av.CodecContext.create(self._name, "r"))
        context.thread_count = 1  # with more, FFmpeg's decoder of VVC now and then gives other samples
        return context

    def push(self, given: Units) -> Sequence[Frame]:
        """See the base class."""
        import av

        self._harmed = self._harmed or not all(given)
        if self._harmed:
            return [self._concealed(b"".join(given))]
        frames = self._decoded(av.Packet(b"".join(given)))
        self._taken += 1
        self._last = frames[-1] if frames else None
        if self._group == 1:
            if len(frames) != 1:
                raise CodecError(f"the {self._name} decoder gave {len(frames)} pictures for an access unit, not 1")
            return frames
        if self._taken % self._group == 0:
            frames += self.close()
            self._context = self._opened()
        return frames

    def close(self) -> list[Frame]:
        """See the base class."""
        return self._decoded(None) if self._taken else []

    def _concealed(self, data: bytes) -> Frame:
        """The picture of a damaged access unit, or of one that is coded from damaged ones; else the picture before."""
        import av

        frames: list[Frame] = []
        with contextlib.suppress(CodecError):
            if data:  # nothing at all would end the stream
                frames = self._decoded(av.Packet(data))
            if not frames and not self._taken:
                frames = self._decoded(None)
                self._context.flush_buffers()
        self._taken += 1
        self._last = frames[-1] if frames else self._last
        if self._last is None:
            raise CodecError(f"the {self._name} decoder gave no picture for a damaged access unit")
        return self._last

    def _decoded(self, packet: av.Packet[Any] | None) -> list[Frame]:
        import av

        try:
            return [_samples(frame) for frame in self._context.decode(packet)]
        except av.FFmpegError as error:
            if packet is None and isinstance(error, av.EOFError):  # emptied before
                return []
            raise CodecError(f"the {self._name} decoder failed: {error.strerror}") from None


def _encoder(setup: EncoderSetup, size: Size) -> av.VideoCodecContext:
    import av

    height, width = padded_size(size)
    try:
        context = cast("av.VideoCodecContext", av.CodecContext.create(setup.name, "w"))
        context.width, context.height, context.pix_fmt = width, height, setup.pixels
        context.time_base, context.framerate = Fraction(1, _RATE), Fraction(_RATE)
        context.thread_count = 1
        context.options = dict(setup.options)
        context.open()
    except (av.FFmpegError, ValueError) as error:
        raise CodecError(f"cannot open {setup.name}: {error}") from None
    return context


def _packets(context: av.VideoCodecContext, setup: EncoderSetup, frame: av.VideoFrame | None) -> list[AccessUnit]:
    import av

    try:
        packets = context.encode(frame)
    except av.FFmpegError as error:
        raise CodecError(f"{setup.name} failed: {error.strerror}") from None
    return [AccessUnit((setup.clean(bytes(packet)),), packet.pts, bool(packet.is_keyframe)) for packet in packets]


def _video_frame(frame: Frame, size: Size, number: int, pixels: str) -> av.VideoFrame:
    import av

    made = av.VideoFrame.from_ndarray(frame.reshape(-1, padded_size(size)[1]), _PIXELS)
    made = made if pixels == _PIXELS else made.reformat(format=pixels)
    made.pts = number
    return made


def _samples(frame: av.VideoFrame) -> Frame:
    """Of a decoded frame, as a flat array; one of 8 bits gets two more, a grey one its chroma."""
    frame = frame.reformat(format=_PIXELS) if frame.format.name == "yuv420p" else frame
    if frame.format.name not in (_PIXELS, "gray10le"):
        raise CodecError(f"a decoder gave {frame.format.name}, not {_PIXELS}")
    samples: Frame = frame.to_ndarray().astype("<u2", copy=False).ravel()
    return samples if frame.format.name == _PIXELS else np.pad(samples, (0, samples.size // 2), constant_values=GREY)
