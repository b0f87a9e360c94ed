"""Bytes of a picture to RGB pixels, refusing what is not one before it costs memory."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from shared.errors import ImageError
from shared.frames.pyramid import Image as Pixels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation. Pillow's own exif_transpose also rewrites the other tags, and fails where one is unusual."""
_ON_THE_SIDE = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}


def decode(data: bytes, max_pixels: int) -> Pixels:
    """Decode a JPEG, PNG, WebP or BMP picture, turned as its EXIF orientation says.

    Args:
        data: the file's bytes.
        max_pixels: refuse pictures with more, judged by the header alone.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        ImageError: not such a picture, damaged, or too large.
    """
    if not data:
        raise ImageError("no image in the request")
    with _opened(io.BytesIO(data), max_pixels) as image:
        # Pillow opens 16-bit colour PNGs as 8-bit ones; IHDR, always first, has the true depth.
        if image.mode not in _MODES or (image.format == "PNG" and data[24] > 8):
            raise ImageError(f"images of mode {image.mode} are not supported: send 8 bits per channel")
        turn = _turn(image)
        rgb = image.convert("RGB")
        return np.asarray(rgb if turn is None else rgb.transpose(turn))


def size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height that :func:`decode` gives a picture file, from its header.

    Raises:
        ImageError: not such a picture, damaged, or too large.
    """
    with _opened(path, max_pixels) as image:
        width, height = image.size
        return (height, width) if _turn(image) in _ON_THE_SIDE else (width, height)


def _turn(image: Image.Image) -> Image.Transpose | None:
    return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))


@contextmanager
def _opened(file: IO[bytes] | Path, max_pixels: int) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels, where max_pixels decides, and of odd metadata
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise ImageError(f"image of {width}×{height} exceeds the limit of {max_pixels} pixels")
                yield image
    except Image.DecompressionBombError:
        raise ImageError(f"image exceeds the limit of {max_pixels} pixels") from None
    except UnidentifiedImageError:
        raise ImageError(f"not a {', '.join(FORMATS)} image") from None
    except (OSError, ValueError, SyntaxError, struct.error) as error:  # what Pillow's decoders raise on damaged files
        raise ImageError(f"damaged image: {error}") from None
