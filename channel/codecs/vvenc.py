"""VVC (H.266) by VVenC."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from channel.codecs.ffmpeg import VideoSettings


class Vvenc(VideoSettings):
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
