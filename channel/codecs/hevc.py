"""HEVC (H.265) by x265."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from featlink.channel.codecs.video import VideoCodec
from featlink.shared.conditions.registry import register


@register
class Hevc(VideoCodec):
    """HEVC intra by x265 at constant QP, tuned for PSNR (no perceptual optimisation).

    Example:
        >>> Hevc(qp=40).encoder_options(threads=1)[:4]
        ['-c:v', 'libx265', '-qp', '40']
    """

    container: ClassVar[str] = "hevc"

    type: Literal["hevc"] = "hevc"
    qp: int = Field(default=32, ge=0, le=51, description="x265's --qp. x265 codes an intra picture at a QP lower by 3.")
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
    ] = Field(default="medium", description="x265's --preset, from least to most effort.")

    def encoder_options(self, threads: int) -> list[str]:
        """See the base class."""
        # info=0: no 2 kB of text in the stream. wpp=0: its substreams would cost bits, and without it a
        # single picture is coded on one thread anyway.
        params = f"keyint=1:info=0:wpp=0:pools={threads or '*'}:log-level=error"
        return ["-c:v", "libx265", "-qp", str(self.qp), "-preset", self.preset, "-tune", "psnr", "-x265-params", params]
