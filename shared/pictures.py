"""Decode picture files to RGB pixels; detect truncated and corrupt data, and reject bad files before allocating memory.

Pillow opens the files. Two of its properties are worked around: it silently accepts a JPEG with corrupt data
(TurboJPEG, the same decoder, reports it), and it reads every text and colour profile of a PNG, and rejects long ones as
an attack.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from featlink.shared.errors import ImageError
from featlink.shared.features import Image as Pixels

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_DAMAGE = (OSError, ValueError, SyntaxError, struct.error)
"""What Pillow's decoders raise on damaged files."""

_TURNS: dict[int, Callable[[Pixels], Any]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.flip(pixels, -1),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""By EXIF orientation, of pictures that are not stored upright. Pillow's own ``exif_transpose`` also writes the EXIF
anew, which fails where that is odd, and it does not take TurboJPEG's pixels."""
_ON_THE_SIDE = {5, 6, 7, 8}


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
    return pixels if orientation is None else np.asarray(_TURNS[orientation](pixels))


def read_header(data: bytes, max_pixels: int) -> Header:
    """Look at a picture file without decoding its pixels.

    Raises:
        ImageError: :func:`decode` would refuse it, except for damage to the pixels' data.
    """
    with _opened(data, max_pixels) as image:
        orientation, (width, height) = _orientation(image), image.size
        size = (height, width) if orientation in _ON_THE_SIDE else (width, height)
        return Header(size, (width, height), orientation is not None)


def _pixels(image: Image.Image, data: bytes) -> Pixels:
    """Pixels of an opened picture as they are stored, not yet turned."""
    is_jpeg = image.format in ("JPEG", "MPO")
    if is_jpeg and image.mode in ("L", "RGB") and (decoded := _decode_jpeg(data)) is not None:
        return decoded
    if is_jpeg and image.mode == "CMYK":
        _decode_jpeg(data, "CMYK")  # for damage; how inks become R, G and B is Pillow's matter
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int | None:
    """EXIF orientation of a picture to turn. Unreadable EXIF gives None: it is no damage to the pixels."""
    try:
        orientation: Any = image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:
        return None
    return int(orientation) if orientation in range(2, 9) else None


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    if not data:
        raise ImageError("no image in the request")
    _check_scans(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels, where max_pixels decides, and of odd metadata
            with Image.open(io.BytesIO(strip_metadata(data)), formats=FORMATS) as image:
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


# JPEG

_JPEG = b"\xff\xd8\xff"
_MOST_SCANS = 100
"""A progressive JPEG has about ten. Each costs a pass over the whole picture, however few bytes it has."""
_MARKER = re.compile(rb"\xff+[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)
"""What ends a scan: no byte of it, no restart."""
_START_OF_SCAN, _END = 0xDA, 0xD9
_JPEG_DAMAGE = ("Corrupt JPEG data", "Premature end")
"""How libjpeg's warnings of damaged data begin. Others are of oddities that cost no pixels."""
_LEFT_OVER = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
"""What is said of bytes between the last pixel and the end: a decoder that lost its way leaves some, and some cameras
write zeros there."""


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG that takes long to decode because of the number of its scans; any other file passes."""
    if not data.startswith(_JPEG) or data.count(bytes([0xFF, _START_OF_SCAN])) <= _MOST_SCANS:
        return  # most have a handful of such bytes wherever they are; to tell which of them begin a scan takes longer
    scans, at = 0, 2
    while (found := _MARKER.search(data, at)) and (kind := data[found.end() - 1]) != _END:
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
        scans += kind == _START_OF_SCAN
        if scans > _MOST_SCANS:
            raise ImageError(f"a JPEG of more than {_MOST_SCANS} scans")


def _decode_jpeg(data: bytes, colours: str = "RGB") -> Pixels | None:
    """Decode a JPEG, bit for bit as Pillow does.

    Args:
        data: the file's bytes.
        colours: ``RGB``, for grey ones too; ``CMYK`` for those.

    Returns:
        uint8 (H, W, 3), or 4 for CMYK. None if TurboJPEG does not decode such a file.

    Raises:
        ImageError: the data is damaged.
    """
    decoded = _pixels_or_warning(data, colours)
    if isinstance(decoded, str) and (unpadded := _without_padding(data, decoded)) is not None:
        decoded = _pixels_or_warning(unpadded, colours)
    if not isinstance(decoded, str):
        return decoded
    if decoded.startswith(_JPEG_DAMAGE):
        raise ImageError(f"damaged image: {decoded}")
    return None


def _pixels_or_warning(data: bytes, colours: str) -> Pixels | str:
    try:
        decoded: Pixels = simplejpeg.decode_jpeg(data, colours)
    except ValueError as error:
        return str(error)
    return decoded


def _without_padding(data: bytes, warning: str) -> bytes | None:
    """A file without the zeros before its end, if these are all that the warning is of."""
    if (found := _LEFT_OVER.fullmatch(warning)) is None:
        return None
    zeros, end = bytes(int(found[1])), data.rfind(bytes([0xFF, _END]))
    rest = data[:end].removesuffix(zeros)
    return None if len(rest) == end else rest + data[end:]


# PNG

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
_PROFILE = b"iCCP"
_EXIF = b"Raw profile type exif\0"
"""The text in which older programs keep EXIF, and so the picture's orientation."""
_EXIF_BYTES = 1 << 16
"""Of the longest such text; it holds each byte of the EXIF as two digits."""


def strip_metadata(data: bytes) -> bytes:
    """A PNG file without texts and colour profile; any other file as it is.

    Image generators keep whole workflows in text chunks. Pillow reads texts and profile along with the picture, and
    takes ones of more than a mebibyte for an attack.

    Args:
        data: the file's bytes.

    Example:
        >>> chunk = struct.pack(">I", 3) + b"tEXt" + b"a\\0b" + bytes(4)
        >>> strip_metadata(_PNG + chunk) == _PNG
        True
    """
    if not data.startswith(_PNG):
        return data
    view, parts, start = memoryview(data), [memoryview(_PNG)], len(_PNG)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if kind != _PROFILE and (kind not in _TEXT or _is_exif(kind, data[start + 8 : end - 4])):
            parts.append(view[start:end])
        start = end
    parts.append(view[start:])
    return b"".join(parts)


def _is_exif(kind: bytes, text: bytes) -> bool:
    if not text.startswith(_EXIF) or len(text) > _EXIF_BYTES:
        return False
    if kind == b"tEXt":
        return True
    try:
        return (
            kind == b"zTXt" and len(zlib.decompressobj().decompress(text[len(_EXIF) + 1 :], _EXIF_BYTES)) < _EXIF_BYTES
        )
    except zlib.error:
        return False
