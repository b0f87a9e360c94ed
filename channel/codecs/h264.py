"""H.264 (AVC) by x264."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from featlink.channel.codecs.base import AccessUnit, Coder, PictureFormat, Rows, Tools, Units
from featlink.channel.codecs.video import EncoderSetup, Preset, VideoCodec, open_in_process
from featlink.channel.codecs.yuv import Frame, Size
from featlink.shared.conditions.registry import register

_EIGHT_BITS, _TEN_BITS = "yuv420p", "yuv420p10le"
_QP_OF_10_BITS = 12
"""x264 counts QPs from the lowest that its bit depth has, 6 a bit; the standard from that of 8 bits."""
_START = re.compile(rb"\x00?\x00\x00\x01")
_SLICES = (1, 5)
"""Types of the units that are parts of a picture."""
_BLOCK = 16
"""Pixels along a side of a macroblock."""
_SEI = re.compile(rb"\x00?\x00\x00\x01\x06.*?(?=\x00{2,3}\x01|\Z)", re.DOTALL)
"""The unit with 600 bytes of x264's settings as text."""


@register
class H264(VideoCodec):
    """H.264 (High 10 profile) by x264 at constant QP, tuned for PSNR (no perceptual optimisation).

    With ``slice_bytes``, pictures are cut into slices that decode alone, and coded in 8 bits (High profile): FFmpeg's
    decoder conceals lost slices only there.

    Example:
        >>> H264(qp=40).encoder_options(threads=1)[:4]
        ['-c:v', 'libx264', '-qp', '52']
    """

    container: ClassVar[str] = "h264"
    decoder: ClassVar[str] = "h264"
    conceals: ClassVar[bool] = True

    type: Literal["h264"] = "h264"
    qp: int = Field(
        default=32, ge=0, le=51, description="The standard's QP. x264 codes an intra picture at a QP lower by 3."
    )
    preset: Preset = Field(default="medium", description="x264's --preset, from least to most effort.")
    slice_bytes: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Most bytes of a slice, e.g. what a packet holds; 0: one slice a picture.",
    )

    def encoder_options(self, threads: int) -> list[str]:
        """See the base class."""
        del threads  # more than one would cut the picture into slices, which cost bits
        options = ["-preset", self.preset, "-tune", "psnr", "-threads", "1"]
        options += ["-x264-params", f"keyint=1{self._slices}", *(["-pix_fmt", _EIGHT_BITS] if self._slices else [])]
        return ["-c:v", "libx264", "-qp", str(self._qp), *options, "-bsf:v", "filter_units=remove_types=6"]

    def open_sequence(self, size: Size, tools: Tools) -> Coder[Frame, AccessUnit]:
        """See the base class."""
        intra = f"keyint={self.period}:min-keyint={self.period}:scenecut=0:open-gop=0:repeat-headers=1"
        options = {"preset": self.preset, "qp": str(self._qp), "x264-params": f"{intra}:aq-mode=0:psy=0{self._slices}"}
        if not self.in_groups:
            options["tune"] = "zerolatency"
        pixels = _EIGHT_BITS if self._slices else _TEN_BITS
        return open_in_process(self, EncoderSetup("libx264", options, pixels, _without_text), size)

    def units(self, access_unit: bytes) -> tuple[Units, int]:
        """See the base class: parameter sets, then slices."""
        edges = [*(start.start() for start in _START.finditer(access_unit)), len(access_unit)]
        units = tuple(access_unit[top:end] for top, end in pairwise(edges))
        return units, next((i for i, unit in enumerate(units) if _kind(unit) in _SLICES), 0)

    def unit_rows(self, coded: AccessUnit, form: PictureFormat) -> list[tuple[int, int]]:
        """See the base class: slices begin with the number of their first block, from left to right and down."""
        height, width = self._coded_size(form.shape)
        first = [_first_block(unit) for unit in coded.units[coded.parameters :]]
        across, down = -(-width // _BLOCK), -(-height // _BLOCK)
        edges = [(top // across, -(-end // across)) for top, end in pairwise([*first, across * down])]
        scale = _BLOCK * form.shape[1] / height
        return [(round(top * scale), min(round(end * scale), form.shape[1])) for top, end in edges]

    def missing_rows(self, received: AccessUnit, form: PictureFormat) -> Rows:
        """See the base class: none, as the decoder conceals, unless no slice has come."""
        return np.full(form.shape[1], not any(received.units[received.parameters :]))

    @property
    def _qp(self) -> int:
        return self.qp if self._slices else self.qp + _QP_OF_10_BITS

    @property
    def _slices(self) -> str:
        return f":slice-max-size={self.slice_bytes}" if self.slice_bytes else ""


def _kind(unit: bytes) -> int:
    return unit[unit.index(1) + 1] & 31


def _first_block(unit: bytes) -> int:
    """A slice's first syntax element, behind start code and type: ue(v), so many zeros and as many bits and one."""
    at = unit.index(1) + 2
    bits = int.from_bytes(unit[at : at + 8].ljust(8, b"\0"), "big")
    zeros = 64 - bits.bit_length()
    return (bits >> max(0, 63 - 2 * zeros)) - 1


def _without_text(access_unit: bytes) -> bytes:
    return _SEI.sub(b"", access_unit)
