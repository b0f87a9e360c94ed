"""Texts and profiles of a PNG do not decide whether its pixels can be had."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from featlink.edge.decode import decode, read_header
from featlink.edge.png import bare

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(chunks: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    data, header = file.getvalue(), 8 + 25
    return data[:header] + chunks + data[header:]


def text_exif(exif: bytes) -> bytes:
    digits = b"\nexif\n" + b"%8d\n" % len(exif) + exif.hex().encode() + b"\n"
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits))


TURN = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x112, 3, 1, 6) + bytes(4)
HARMLESS = {
    "a long text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * 900_000)),
    "a long international text": chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"x" * 1_500_000)),
    "many texts": b"".join(chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 1_000_000)) for _ in range(70)),
    "a large profile": chunk(b"iCCP", b"printer\0\0" + zlib.compress(bytes(1_600_000))),
    "EXIF without a header": chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03"),
    "EXIF in text, cut short": text_exif(b"Exif\0\0MM\0"),
    "EXIF in text, nonsense": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  8\nzzzz\n"),
    "EXIF in text, a bomb": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(10_000_000))),
    "EXIF in text, damaged": chunk(b"zTXt", b"Raw profile type exif\0\0nonsense"),
}


@pytest.mark.parametrize("chunks", HARMLESS.values(), ids=HARMLESS)
def test_what_is_beside_the_pixels_is_no_damage(chunks: bytes) -> None:
    data = with_chunks(chunks)
    np.testing.assert_array_equal(decode(data, 10**6), RGB)
    assert read_header(data, 10**6).size == (32, 24)


def test_exif_in_text_still_turns() -> None:
    np.testing.assert_array_equal(decode(with_chunks(text_exif(TURN)), 10**6), RGB.swapaxes(0, 1)[:, ::-1])


def test_other_files_and_cut_ones_stay_as_they_are() -> None:
    whole = with_chunks(b"")
    for data in (b"", b"\xff\xd8\xff", whole, whole[:-7], whole[:40]):
        assert bare(data) == data
