"""What the video encoders have in common: one picture is coded as one 10-bit 4:2:0 intra frame."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from featlink.channel.codecs import ffmpeg, yuv
from featlink.channel.codecs.base import Codec, Shape, Tools
from featlink.channel.codecs.process import CodecError
from featlink.shared.frames.bitstream import Samples


class VideoCodec(Codec):
    """An encoder of FFmpeg.

    Features go into luma with constant chroma, images are converted to BT.709 4:2:0 of 10 bits (:mod:`.yuv`).
    """

    strength: ClassVar[str | None] = "qp"
    heights: ClassVar[tuple[int, ...]] = (1,)
    """How many times as high as the picture's frame a coded one may be; the bitstream says which it is."""

    type: str
    qp: int
    bit_depth: Literal[8, 10] = Field(
        default=8, description="Bits per sample of a plane of features. The bitstream always has 10; images have 8."
    )

    @property
    def plane_depth(self) -> int:
        """See the base class."""
        return self.bit_depth

    @abstractmethod
    def encoder_options(self, threads: int) -> list[str]:
        """FFmpeg's encoder options, from ``-c:v`` on.

        Args:
            threads: the encoder's threads, 0 for one per core.
        """

    def encode(self, picture: Samples, tools: Tools) -> bytes:
        """See the base class."""
        _, height, width = picture.shape
        if len(picture) == 1:
            frame = yuv.from_plane(picture[0], self.bit_depth)
        else:
            frame = yuv.from_rgb(picture.astype(np.uint8, copy=False))
        return self._encode_frame(frame, (height, width), tools)

    def decode(self, bitstream: bytes, shape: Shape, tools: Tools) -> Samples:
        """See the base class."""
        channels, *size = shape
        height, width = size
        decoded = self._decode_frame(bitstream, tools)
        times, rest = divmod(len(decoded), yuv.frame_bytes((height, width)))
        if rest or times not in self.heights:
            raise CodecError(
                f"the {self.type} decoder gave {len(decoded)} bytes, not {yuv.frame_bytes((height, width))}"
            )
        frame = yuv.shorter(np.frombuffer(decoded, "<u2"), (height, width), times)
        if channels == 1:
            return yuv.to_plane(frame, (height, width), self.bit_depth)[None]
        return yuv.to_rgb(frame, (height, width))

    def _encode_frame(self, frame: yuv.Frame, size: yuv.Size, tools: Tools) -> bytes:
        """Code the frame of a picture of this size."""
        options = self.encoder_options(tools.threads)
        data = frame.data.cast("B")
        return ffmpeg.encode(data, yuv.padded_size(size), options, self.container, tools.ffmpeg, tools.timeout_s)

    def _decode_frame(self, bitstream: bytes, tools: Tools) -> bytes:
        return ffmpeg.decode(bitstream, self.container, tools.ffmpeg, tools.threads, tools.timeout_s)
