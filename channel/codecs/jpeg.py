"""JPEG by libjpeg-turbo, inside OpenCV; with restart markers, in stripes that decode alone."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from featlink.channel.codecs.base import (
    AccessUnit,
    CodecError,
    Coder,
    PictureFormat,
    Shape,
    StillCodec,
    StillCoder,
    Tools,
    Units,
)
from featlink.shared.conditions.registry import register
from featlink.shared.frames.bitstream import Samples

_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_FRAMES = range(0xC0, 0xC3)
"""Markers of a frame's header: baseline, extended, progressive."""
_MOST_INTERVAL = 65535
"""Blocks from one marker to the next."""


@register
class Jpeg(StillCodec):
    """Baseline JPEG (JFIF): a plane as a grey image, an image as Y'CbCr 4:2:0.

    Stripes are whole rows of blocks, 8 or 16 rows of samples each, from one restart marker to the next.
    """

    strength: ClassVar[str | None] = "quality"
    container: ClassVar[str] = "jpg"

    type: Literal["jpeg"] = "jpeg"
    quality: int = Field(default=75, ge=1, le=100, description="libjpeg's quality, from worst to best.")
    stripes: int = Field(default=1, ge=1, le=64, description="stripes that decode alone, about")

    def encode(self, picture: Samples) -> bytes:
        """See the base class; libjpeg also refuses sides beyond 65500."""
        pixels = np.ascontiguousarray(picture[::-1].transpose(1, 2, 0))  # BGR, or grey
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        if self.stripes > 1:
            options += [cv2.IMWRITE_JPEG_RST_INTERVAL, self._rows_of_blocks(pixels.shape) * _across(pixels.shape)]
        done, encoded = cv2.imencode(".jpg", pixels, options)
        if not done:
            raise CodecError(f"JPEG encoder failed on an image of {pixels.shape}")
        return encoded.tobytes()

    def decode(self, bitstream: bytes, shape: Shape) -> Samples:
        """See the base class."""
        if (size := _size(bitstream)) != shape[1:]:  # before anything of that size is made
            raise CodecError(f"a JPEG of {size}, not of {shape[1:]}")
        mode = cv2.IMREAD_GRAYSCALE if shape[0] == 1 else cv2.IMREAD_COLOR
        pixels = cv2.imdecode(np.frombuffer(bitstream, np.uint8), mode)
        if pixels is None:
            raise CodecError("JPEG decoder gave nothing")
        return np.ascontiguousarray(np.atleast_3d(pixels)[..., ::-1].transpose(2, 0, 1)).astype(np.uint8, copy=False)

    def open_encoder(self, form: PictureFormat, tools: Tools) -> Coder[Samples, AccessUnit]:
        """See the base class; the tables stand before the stripes."""
        return StillCoder(lambda picture: AccessUnit(_units(self.encode(picture)), parameters=1))

    def open_decoder(self, form: PictureFormat, tools: Tools) -> Coder[Units, Samples]:
        """See the base class."""
        return StillCoder(lambda units: self.decode(_filled(units), form.shape))

    def unit_rows(self, coded: AccessUnit, form: PictureFormat) -> list[tuple[int, int]]:
        """See the base class: those of stripes."""
        channels, height, width = form.shape
        shape = (height, width, channels)
        rows = height if self.stripes == 1 else self._rows_of_blocks(shape) * _block(shape)
        return [(top, min(top + rows, height)) for top in range(0, height, rows)]

    def _rows_of_blocks(self, shape: tuple[int, ...]) -> int:
        """Of a stripe of pixels (H, W, C)."""
        rows = -(-shape[0] // _block(shape))
        return min(-(-rows // self.stripes), _MOST_INTERVAL // _across(shape))


def _block(shape: tuple[int, ...]) -> int:
    """Pixels along a side of what is coded together: 2×2 blocks of luma where chroma has half the resolution."""
    return 8 if shape[2] == 1 else 16


def _across(shape: tuple[int, ...]) -> int:
    return -(-shape[1] // _block(shape))


def _size(bitstream: bytes) -> tuple[int, int] | None:
    """Height and width, as the frame header has them; None where there is none."""
    at = 2
    while at + 9 <= len(bitstream) and bitstream[at] == 0xFF:  # marker, length, then of a frame: depth, height, width
        if bitstream[at + 1] in _FRAMES:
            return int.from_bytes(bitstream[at + 5 : at + 7], "big"), int.from_bytes(bitstream[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(bitstream[at + 2 : at + 4], "big")
    return None


def _units(bitstream: bytes) -> Units:
    """Tables, then stripes, each with the marker behind it."""
    at = bitstream.index(_START_OF_SCAN)
    scan = at + 2 + int.from_bytes(bitstream[at + 2 : at + 4], "big")
    edges = [scan, *(marker.end() for marker in _RESTART.finditer(bitstream, scan)), len(bitstream)]
    return (bitstream[:scan], *(bitstream[top:end] for top, end in pairwise(edges)))


def _filled(units: Units) -> bytes:
    """A bitstream in which the nearest stripe stands in the place of one that is missing."""
    if all(units):
        return b"".join(units)
    tables, *stripes = units
    there = np.flatnonzero([bool(stripe) for stripe in stripes])
    if not there.size:
        raise CodecError("no stripe of a JPEG")
    parts = [stripes[there[np.abs(there - i).argmin()]][:-2] for i in range(len(stripes))]
    markers = [bytes([0xFF, 0xD0 + i % 8]) for i in range(len(parts) - 1)]
    return b"".join([tables, *map(b"".join, zip(parts, [*markers, _END_OF_IMAGE], strict=True))])
