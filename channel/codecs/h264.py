"""H.264 (AVC) by x264."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field

from featlink.channel.codecs.base import AccessUnit, Coder, Tools
from featlink.channel.codecs.video import EncoderSetup, Preset, VideoCodec, open_in_process
from featlink.channel.codecs.yuv import Frame, Size
from featlink.shared.conditions.registry import register

_QP_OF_10_BITS = 12
"""x264 counts QPs from the lowest that its bit depth has, 6 a bit; the standard from that of 8 bits."""
_SEI = re.compile(rb"\x00?\x00\x00\x01\x06.*?(?=\x00{2,3}\x01|\Z)", re.DOTALL)
"""The unit with 600 bytes of x264's settings as text."""


@register
class H264(VideoCodec):
    """H.264 (High 10 profile) by x264 at constant QP, tuned for PSNR (no perceptual optimisation).

    Example:
        >>> H264(qp=40).encoder_options(threads=1)[:4]
        ['-c:v', 'libx264', '-qp', '52']
    """

    container: ClassVar[str] = "h264"
    decoder: ClassVar[str] = "h264"

    type: Literal["h264"] = "h264"
    qp: int = Field(
        default=32, ge=0, le=51, description="The standard's QP. x264 codes an intra picture at a QP lower by 3."
    )
    preset: Preset = Field(default="medium", description="x264's --preset, from least to most effort.")

    def encoder_options(self, threads: int) -> list[str]:
        """See the base class."""
        del threads  # more than one would cut the picture into slices, which cost bits
        options = ["-preset", self.preset, "-tune", "psnr", "-threads", "1", "-x264-params", "keyint=1"]
        return ["-c:v", "libx264", "-qp", str(self._qp), *options, "-bsf:v", "filter_units=remove_types=6"]

    def open_sequence(self, size: Size, tools: Tools) -> Coder[Frame, AccessUnit]:
        """See the base class."""
        intra = f"keyint={self.period}:min-keyint={self.period}:scenecut=0:open-gop=0:repeat-headers=1"
        options = {"preset": self.preset, "qp": str(self._qp), "x264-params": f"{intra}:aq-mode=0:psy=0"}
        if not self.in_groups:
            options["tune"] = "zerolatency"
        return open_in_process(self, EncoderSetup("libx264", options, _without_text), size)

    @property
    def _qp(self) -> int:
        return self.qp + _QP_OF_10_BITS


def _without_text(access_unit: bytes) -> bytes:
    return _SEI.sub(b"", access_unit)
