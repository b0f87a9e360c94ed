"""Bytes of a picture to RGB pixels, refusing what is not one before it costs memory."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from featlink.edge import jpeg
from featlink.edge.png import bare
from featlink.shared.errors import ImageError
from featlink.shared.features import Image as Pixels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_TURNED = range(2, 9)
"""EXIF orientations of pictures that are not stored upright."""
_ON_THE_SIDE = {5, 6, 7, 8}
_DAMAGE = (OSError, ValueError, SyntaxError, struct.error)
"""What Pillow's decoders raise on damaged files."""


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
    with _opened(data, max_pixels) as image:
        pixels, orientation = _pixels(image, data), _orientation(image)
    if orientation is None:
        return pixels
    from featlink.edge.turning import turned  # OpenCV takes a while to import, and a file's header needs none of it

    return turned(pixels, orientation)


def _pixels(image: Image.Image, data: bytes) -> Pixels:
    """Of an opened picture, as it is stored."""
    is_jpeg = image.format in ("JPEG", "MPO")
    if is_jpeg and image.mode in ("L", "RGB") and (decoded := jpeg.pixels(data)) is not None:
        return decoded
    if is_jpeg and image.mode == "CMYK":
        jpeg.pixels(data, "CMYK")  # for damage; how inks become R, G and B is Pillow's matter
    return np.asarray(image.convert("RGB"))


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself; sizes are (width, height) in pixels.

    Attributes:
        size: of what :func:`decode` makes of it.
        stored: before it is turned as its EXIF orientation says.
        turned: whether it is turned or mirrored at all.
    """

    size: tuple[int, int]
    stored: tuple[int, int]
    turned: bool


def read_header(data: bytes, max_pixels: int) -> Header:
    """Look at a picture file without decoding its pixels.

    Raises:
        ImageError: :func:`decode` would refuse it, except for damage to the pixels' data.
    """
    with _opened(data, max_pixels) as image:
        orientation, (width, height) = _orientation(image), image.size
        size = (height, width) if orientation in _ON_THE_SIDE else (width, height)
        return Header(size, (width, height), orientation is not None)


def _orientation(image: Image.Image) -> int | None:
    """What EXIF says of a picture to turn. Unreadable EXIF says nothing: it is no damage to the pixels."""
    try:
        orientation: Any = image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:
        return None
    return int(orientation) if orientation in _TURNED else None


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    if not data:
        raise ImageError("no image in the request")
    jpeg.check_scans(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels, where max_pixels decides, and of odd metadata
            with Image.open(io.BytesIO(bare(data)), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise ImageError(f"image of {width}×{height} exceeds the limit of {max_pixels} pixels")
                # Pillow opens 16-bit colour PNGs as 8-bit ones; IHDR, always first, has the true depth.
                if image.mode not in _MODES or (image.format == "PNG" and data[24] > 8):
                    raise ImageError(f"images of mode {image.mode} are not supported: send 8 bits per channel")
                yield image
    except Image.DecompressionBombError:
        raise ImageError(f"image exceeds the limit of {max_pixels} pixels") from None
    except UnidentifiedImageError:
        raise ImageError(f"not a {', '.join(FORMATS)} image") from None
    except _DAMAGE as error:
        raise ImageError(f"damaged image: {error}") from None
