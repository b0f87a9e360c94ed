"""WebP by libwebp, inside Pillow."""

from __future__ import annotations

import io
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from featlink.channel.codecs.base import Shape, StillCodec
from featlink.shared.conditions.registry import register
from featlink.shared.frames.bitstream import Samples


@register
class Webp(StillCodec):
    """Lossy WebP: an image as it is, a plane of features as the luma of a grey one."""

    strength: ClassVar[str | None] = "quality"
    container: ClassVar[str] = "webp"

    type: Literal["pillow_webp"] = "pillow_webp"
    quality: int = Field(default=75, ge=0, le=100, description="libwebp's quality, from worst to best")

    def encode(self, picture: Samples) -> bytes:
        """See the base class."""
        pixels = np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0)
        out = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(out, "WEBP", quality=self.quality)
        return out.getvalue()

    def decode(self, bitstream: bytes, shape: Shape) -> Samples:
        """See the base class."""
        with Image.open(io.BytesIO(bitstream)) as image:
            pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        return np.ascontiguousarray(pixels if shape[0] == 3 else pixels[1:2])
