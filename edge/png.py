"""PNG files without the chunks that say nothing about their pixels, of which one may be larger than the picture."""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
_PROFILE = b"iCCP"
_EXIF = b"Raw profile type exif\0"
"""The text in which older programs keep EXIF, and so the picture's orientation."""
_EXIF_BYTES = 1 << 16
"""Of the longest such text; it holds each byte of the EXIF as two digits."""


def bare(data: bytes) -> bytes:
    """A PNG file without texts and colour profile; any other file as it is.

    Image generators keep whole workflows in text chunks. Pillow reads texts and profile along with the picture, and
    takes ones of more than a mebibyte for an attack.

    Args:
        data: the file's bytes.

    Example:
        >>> chunk = struct.pack(">I", 3) + b"tEXt" + b"a\\0b" + bytes(4)
        >>> bare(_SIGNATURE + chunk) == _SIGNATURE
        True
    """
    if not data.startswith(_SIGNATURE):
        return data
    view, kept, start = memoryview(data), [memoryview(_SIGNATURE)], len(_SIGNATURE)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if kind == _PROFILE or (kind in _TEXT and not _is_exif(kind, data[start + 8 : end - 4])):
            start = end
            continue
        kept.append(view[start:end])
        start = end
    kept.append(view[start:])
    return b"".join(kept)


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
