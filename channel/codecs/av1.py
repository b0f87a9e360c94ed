"""AV1 by SVT-AV1."""

from __future__ import annotations

import os
from typing import ClassVar, Literal

from pydantic import Field

from featlink.channel.codecs.base import AccessUnit, Coder, Tools
from featlink.channel.codecs.video import EncoderSetup, VideoCodec, open_in_process
from featlink.channel.codecs.yuv import Frame, Size
from featlink.shared.conditions.registry import register


@register
class Av1(VideoCodec):
    """AV1 by SVT-AV1 at constant QP, without adaptive quantisation.

    Example:
        >>> Av1(qp=40).encoder_options(threads=1)[-1]
        'rc=0:qp=40:aq-mode=0:avif=1:lp=1'
    """

    container: ClassVar[str] = "obu"
    decoder: ClassVar[str] = "libdav1d"

    type: Literal["av1"] = "av1"
    qp: int = Field(default=32, ge=0, le=63, description="SVT-AV1's --qp; 0 is lossless.")
    preset: int = Field(default=8, ge=0, le=13, description="SVT-AV1's --preset, from most (0) to least (13) effort.")

    def encoder_options(self, threads: int) -> list[str]:
        """See the base class."""
        # avif=1 is the still-picture mode: without it, the QP of a key frame is lowered for the frames to come.
        params = f"rc=0:qp={self.qp}:aq-mode=0:avif=1:lp={threads}"
        return ["-c:v", "libsvtav1", "-preset", str(self.preset), "-svtav1-params", params]

    def open_sequence(self, size: Size, tools: Tools) -> Coder[Frame, AccessUnit]:
        """See the base class."""
        os.environ.setdefault("SVT_LOG", "1")  # errors; the library has no other switch for what it prints
        structure = 2 if self.in_groups else 1  # pred-struct
        params = f"rc=0:qp={self.qp}:aq-mode=0:pred-struct={structure}:keyint={self.period}:lp=1"
        options = {"preset": str(self.preset), "svtav1-params": params}
        return open_in_process(self, EncoderSetup("libsvtav1", options), size)
