"""JPEG files: what Pillow does not say of them.

Pillow decodes a JPEG whose data is damaged into rubbish, silently. TurboJPEG is the same decoder, and tells.
"""

from __future__ import annotations

import re

import simplejpeg

from featlink.shared.errors import ImageError
from featlink.shared.features import Image

_MAGIC = b"\xff\xd8\xff"
_MOST_SCANS = 100
"""A progressive JPEG has about ten. Each costs a pass over the whole picture, however few bytes it has."""
_DAMAGE = ("Corrupt JPEG data", "Premature end")
"""How libjpeg's warnings of damaged data begin. Others are of oddities that cost no pixels."""
_MARKER = re.compile(rb"\xff+[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)
"""What ends a scan: no byte of it, no restart."""
_START_OF_SCAN, _END = 0xDA, 0xD9
_LEFT_OVER = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
"""What is said of bytes between the last pixel and the end: a decoder that lost its way leaves some, and some cameras
write zeros there."""


def check_scans(data: bytes) -> None:
    """Refuse a JPEG that takes long to decode because of the number of its scans.

    Args:
        data: of a file; any other than a JPEG passes.

    Raises:
        ImageError: it has more than 100.

    Example:
        >>> check_scans(_MAGIC + bytes([_START_OF_SCAN, 0, 2]) + b"pixels")
    """
    if not data.startswith(_MAGIC) or data.count(bytes([0xFF, _START_OF_SCAN])) <= _MOST_SCANS:
        return  # most have a handful of such bytes wherever they are; to tell which of them begin a scan takes longer
    scans, at = 0, 2
    while (found := _MARKER.search(data, at)) and (kind := data[found.end() - 1]) != _END:
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
        scans += kind == _START_OF_SCAN
        if scans > _MOST_SCANS:
            raise ImageError(f"a JPEG of more than {_MOST_SCANS} scans")


def pixels(data: bytes, colours: str = "RGB") -> Image | None:
    """Decode a JPEG, bit for bit as Pillow does.

    Args:
        data: the file's bytes.
        colours: ``RGB``, for grey ones too; ``CMYK`` for those.

    Returns:
        uint8 (H, W, 3), or 4 for CMYK. None if TurboJPEG does not decode such a file.

    Raises:
        ImageError: the data is damaged.
    """
    decoded = _decoded(data, colours)
    if isinstance(decoded, str) and (unpadded := _unpadded(data, decoded)) is not None:
        decoded = _decoded(unpadded, colours)
    if not isinstance(decoded, str):
        return decoded
    if decoded.startswith(_DAMAGE):
        raise ImageError(f"damaged image: {decoded}")
    return None


def _decoded(data: bytes, colours: str) -> Image | str:
    """The pixels, or what TurboJPEG warns of."""
    try:
        decoded: Image = simplejpeg.decode_jpeg(data, colours)
    except ValueError as error:
        return str(error)
    return decoded


def _unpadded(data: bytes, warning: str) -> bytes | None:
    """A file without the zeros before its end, if these are all that the warning is of."""
    if (found := _LEFT_OVER.fullmatch(warning)) is None:
        return None
    zeros, end = bytes(int(found[1])), data.rfind(bytes([0xFF, _END]))
    rest = data[:end].removesuffix(zeros)
    return None if len(rest) == end else rest + data[end:]
