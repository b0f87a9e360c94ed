"""HEVC (H.265) by x265."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from featlink.channel.codecs.base import AccessUnit, Coder, Tools
from featlink.channel.codecs.video import EncoderSetup, Preset, VideoCodec, open_in_process
from featlink.channel.codecs.yuv import Frame, Size
from featlink.shared.conditions.registry import register


@register
class Hevc(VideoCodec):
    """HEVC by x265 at constant QP, tuned for PSNR (no perceptual optimisation).

    Example:
        >>> Hevc(qp=40).encoder_options(threads=1)[:4]
        ['-c:v', 'libx265', '-qp', '40']
    """

    container: ClassVar[str] = "hevc"
    decoder: ClassVar[str] = "hevc"

    type: Literal["hevc"] = "hevc"
    qp: int = Field(default=32, ge=0, le=51, description="x265's --qp. x265 codes an intra picture at a QP lower by 3.")
    preset: Preset = Field(default="medium", description="x265's --preset, from least to most effort.")

    def encoder_options(self, threads: int) -> list[str]:
        """See the base class."""
        # info=0: no 2 kB of text in the stream. wpp=0: its substreams would cost bits, and without it a
        # single picture is coded on one thread anyway.
        params = f"keyint=1:info=0:wpp=0:pools={threads or '*'}:log-level=error"
        return ["-c:v", "libx265", "-qp", str(self.qp), "-preset", self.preset, "-tune", "psnr", "-x265-params", params]

    def open_sequence(self, size: Size, tools: Tools) -> Coder[Frame, AccessUnit]:
        """See the base class."""
        # The tune for zero delay, and that for PSNR in its parts, as there can be only one.
        psnr = "aq-mode=0:psy-rd=0:psy-rdoq=0"
        intra = f"keyint={self.period}:min-keyint={self.period}:scenecut=0:open-gop=0:repeat-headers=1"
        alone = "pools=none:frame-threads=1:wpp=0:info=0:log-level=none"
        options = {"preset": self.preset, "x265-params": f"qp={self.qp}:{psnr}:{intra}:{alone}"}
        if not self.in_groups:
            options["tune"] = "zerolatency"
        return open_in_process(self, EncoderSetup("libx265", options), size)
