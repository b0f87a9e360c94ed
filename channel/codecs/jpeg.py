"""JPEG by libjpeg-turbo, inside OpenCV."""

from __future__ import annotations

from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from featlink.channel.codecs.base import CodecError, Shape, StillCodec
from featlink.shared.conditions.registry import register
from featlink.shared.frames.bitstream import Samples


@register
class Jpeg(StillCodec):
    """Baseline JPEG (JFIF): a plane as a grey image, an image as Y'CbCr 4:2:0."""

    strength: ClassVar[str | None] = "quality"
    container: ClassVar[str] = "jpg"

    type: Literal["jpeg"] = "jpeg"
    quality: int = Field(default=75, ge=1, le=100, description="libjpeg's quality, from worst to best.")

    def encode(self, picture: Samples) -> bytes:
        """See the base class; libjpeg also refuses sides beyond 65500."""
        pixels = np.ascontiguousarray(picture[::-1].transpose(1, 2, 0))  # BGR, or grey
        done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not done:
            raise CodecError(f"JPEG encoder failed on an image of {pixels.shape}")
        return encoded.tobytes()

    def decode(self, bitstream: bytes, shape: Shape) -> Samples:
        """See the base class."""
        mode = cv2.IMREAD_GRAYSCALE if shape[0] == 1 else cv2.IMREAD_COLOR
        pixels = cv2.imdecode(np.frombuffer(bitstream, np.uint8), mode)
        if pixels is None:
            raise CodecError("JPEG decoder gave nothing")
        return np.ascontiguousarray(np.atleast_3d(pixels)[..., ::-1].transpose(2, 0, 1)).astype(np.uint8, copy=False)
