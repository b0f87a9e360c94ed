"""JPEG by libjpeg-turbo, inside OpenCV."""

from __future__ import annotations

from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from channel.codecs.process import CodecError

U8 = npt.NDArray[np.uint8]


class Jpeg(BaseModel):
    """Baseline JPEG (JFIF): a plane as a grey image, an image as Y'CbCr 4:2:0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    container: ClassVar[str] = "jpg"
    bit_depth: ClassVar[int] = 8

    type: Literal["jpeg"] = "jpeg"
    quality: int = Field(default=75, ge=1, le=100, description="libjpeg's quality, from worst to best.")


def encode(pixels: U8, settings: Jpeg) -> bytes:
    """Code grey (H, W) or BGR (H, W, 3) pixels.

    Raises:
        CodecError: libjpeg refuses, for example a side beyond 65500.
    """
    done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, settings.quality])
    if not done:
        raise CodecError(f"JPEG encoder failed on an image of {pixels.shape}")
    return encoded.tobytes()


def decode(bitstream: bytes, shape: tuple[int, ...]) -> U8:
    """Decode to pixels of the shape that was coded.

    Raises:
        CodecError: not a JPEG image, or of another shape.
    """
    mode = cv2.IMREAD_GRAYSCALE if len(shape) == 2 else cv2.IMREAD_COLOR
    pixels = cv2.imdecode(np.frombuffer(bitstream, np.uint8), mode)
    if pixels is None or pixels.shape != shape:
        raise CodecError(f"JPEG decoder gave {'nothing' if pixels is None else pixels.shape}, not {shape}")
    return pixels.astype(np.uint8, copy=False)
