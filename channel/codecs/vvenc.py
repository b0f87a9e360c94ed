"""VVC (H.266) by VVenC."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from featlink.channel.codecs import vvcapps, yuv
from featlink.channel.codecs.base import Tools
from featlink.channel.codecs.process import CodecError
from featlink.channel.codecs.video import VideoCodec
from featlink.shared.conditions.registry import register

_TOO_LITTLE_ROOM = "Error submitting video frame to the encoder"
"""What FFmpeg says when the bitstream outgrows its buffer."""


@register
class Vvenc(VideoCodec):
    """VVC intra by VVenC, perceptual QP adaptation off.

    Example:
        >>> Vvenc(qp=40).encoder_options(threads=1)[:6]
        ['-c:v', 'libvvenc', '-qp', '40', '-preset', 'faster']
    """

    container: ClassVar[str] = "vvc"
    heights: ClassVar[tuple[int, ...]] = (1, 2, 4)
    """FFmpeg gives VVenC a buffer of one byte a luma sample. Noise at the lowest QPs needs more, and gets it with a
    taller frame: the lines added are the last ones again, which costs next to nothing."""

    type: Literal["vvenc"] = "vvenc"
    qp: int = Field(
        default=32, ge=0, le=63, description="VVenC's --qp. VVenC codes an intra picture at a QP lower by 3."
    )
    preset: Literal["faster", "fast", "medium", "slow", "slower"] = Field(
        default="faster", description="VVenC's --preset, from least to most effort."
    )

    def encoder_options(self, threads: int) -> list[str]:
        """See the base class."""
        options = ["-qp", str(self.qp), "-preset", self.preset, "-qpa", "0", "-threads", str(threads)]
        return ["-c:v", "libvvenc", *options]

    def _encode_frame(self, frame: yuv.Frame, size: yuv.Size, tools: Tools) -> bytes:
        if tools.vvencapp is not None:
            data, padded = frame.data.cast("B"), yuv.padded_size(size)
            return vvcapps.encode(data, padded, self.qp, self.preset, tools.vvencapp, tools.threads, tools.timeout_s)
        height, width = yuv.padded_size(size)
        *heights, most = self.heights
        for times in heights:
            try:
                return super()._encode_frame(yuv.taller(frame, size, times), (times * height, width), tools)
            except CodecError as error:
                if _TOO_LITTLE_ROOM not in str(error):
                    raise
        return super()._encode_frame(yuv.taller(frame, size, most), (most * height, width), tools)

    def _decode_frame(self, bitstream: bytes, tools: Tools) -> bytes:
        if tools.vvdecapp is None:
            # With more threads, FFmpeg's decoder of VVC now and then gives other samples of the same bitstream.
            return super()._decode_frame(bitstream, replace(tools, threads=1))
        return vvcapps.decode(bitstream, tools.vvdecapp, tools.threads, tools.timeout_s)
