"""VVC (H.266) by VVenC."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from channel.codecs import vvcapps, yuv
from channel.codecs.base import Tools
from channel.codecs.process import Buffer
from channel.codecs.video import VideoCodec
from shared.conditions.registry import register


@register
class Vvenc(VideoCodec):
    """VVC intra by VVenC, perceptual QP adaptation off.

    Example:
        >>> Vvenc(qp=40).encoder_options(threads=1)[:6]
        ['-c:v', 'libvvenc', '-qp', '40', '-preset', 'faster']
    """

    container: ClassVar[str] = "vvc"

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

    def _encode_frame(self, frame: Buffer, size: yuv.Size, tools: Tools) -> bytes:
        if tools.vvencapp is None:
            return super()._encode_frame(frame, size, tools)
        return vvcapps.encode(frame, size, self.qp, self.preset, tools.vvencapp, tools.threads, tools.timeout_s)

    def _decode_frame(self, bitstream: bytes, tools: Tools) -> bytes:
        if tools.vvdecapp is None:
            return super()._decode_frame(bitstream, tools)
        return vvcapps.decode(bitstream, tools.vvdecapp, tools.threads, tools.timeout_s)
