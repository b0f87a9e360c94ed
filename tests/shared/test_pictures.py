"""Pictures are decoded as they look; anything else is refused before it costs memory."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from featlink.shared.errors import ImageError
from featlink.shared.pictures import decode, read_header, strip_metadata

LIMIT = 50_000_000
RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, file_format: str = "PNG", **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG that claims a size and holds this image data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def refusal(data: bytes, max_pixels: int = LIMIT) -> str:
    """The one line with which a picture is refused."""
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("file_format", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})], ids=lambda value: str(value)
)
def test_lossless_formats_give_the_pixels(file_format: str, options: dict[str, object]) -> None:
    pixels = decode(encoded(RGB, file_format, **options), LIMIT)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, RGB)


@pytest.mark.parametrize("options", [{"quality": 95}, {"quality": 95, "progressive": True}, {"subsampling": 0}])
def test_jpegs_give_about_the_pixels(options: dict[str, object]) -> None:
    smooth = np.indices((24, 32)).sum(axis=0).astype(np.uint8)[..., None] * np.array([1, 2, 3], np.uint8)
    pixels = decode(encoded(smooth, "JPEG", **options), LIMIT)
    assert pixels.shape == smooth.shape
    assert np.abs(pixels.astype(int) - smooth).mean() < 5


GREY = RGB[..., 0]


def palette() -> Image.Image:
    """Grey by a palette from white to black."""
    image = Image.frombytes("P", (32, 24), (255 - GREY).tobytes())
    image.putpalette([255 - index // 3 for index in range(768)])
    return image


def cmyk() -> Image.Image:
    inks = np.concatenate([255 - RGB, np.zeros((24, 32, 1), np.uint8)], axis=2)
    return Image.frombytes("CMYK", (32, 24), inks.tobytes())


MODES = {
    "1": (encoded(Image.fromarray(GREY > 127)), np.repeat(255 * (GREY > 127)[..., None], 3, axis=2)),
    "L": (encoded(GREY), np.repeat(GREY[..., None], 3, axis=2)),
    "LA": (encoded(Image.fromarray(GREY).convert("LA")), np.repeat(GREY[..., None], 3, axis=2)),
    "P": (encoded(palette()), np.repeat(GREY[..., None], 3, axis=2)),
    "P in a BMP": (encoded(palette(), "BMP"), np.repeat(GREY[..., None], 3, axis=2)),
    "RGBA": (encoded(np.dstack([RGB, GREY])), RGB),
}


@pytest.mark.parametrize("mode", MODES)
def test_other_modes_become_rgb(mode: str) -> None:
    data, expected = MODES[mode]
    np.testing.assert_array_equal(decode(data, LIMIT), expected)


def test_cmyk_becomes_rgb() -> None:
    flat = Image.new("CMYK", (32, 24), (0, 255, 255, 0))
    pixels = decode(encoded(flat, "JPEG", quality=95), LIMIT)
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() < 12
    assert decode(encoded(cmyk(), "JPEG"), LIMIT).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, RGB),
        (2, RGB[:, ::-1]),
        (3, RGB[::-1, ::-1]),
        (4, RGB[::-1]),
        (5, RGB.swapaxes(0, 1)),
        (6, RGB.swapaxes(0, 1)[:, ::-1]),
        (7, RGB[::-1, ::-1].swapaxes(0, 1)),
        (8, RGB.swapaxes(0, 1)[::-1]),
        (9, RGB),
    ],
)
def test_the_exif_orientation_is_applied(orientation: int, turned: np.ndarray) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    np.testing.assert_array_equal(decode(encoded(RGB, exif=exif), LIMIT), turned)


def test_the_first_frame_of_an_animation_counts() -> None:
    first = Image.fromarray(RGB)
    data = encoded(first, "WEBP", save_all=True, append_images=[first.rotate(180)], lossless=True)
    np.testing.assert_array_equal(decode(data, LIMIT), RGB)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no image in the request"),
        (b"this is a text file named picture.jpg", "not a JPEG, PNG, WEBP, BMP image"),
        (b"\xff\xd8\xff", "not a JPEG, PNG, WEBP, BMP image"),
        (encoded(RGB, "GIF"), "not a JPEG, PNG, WEBP, BMP image"),
        (encoded(RGB, "TIFF"), "not a JPEG, PNG, WEBP, BMP image"),
        (encoded(RGB, "PPM"), "not a JPEG, PNG, WEBP, BMP image"),
        (encoded(RGB, "JPEG")[:-200], "damaged image: Premature end of JPEG file"),
        (encoded(RGB)[:200], "damaged image"),
        (encoded(RGB, "BMP")[:-1], "damaged image"),
        (png(32, 24), "damaged image"),
        (png(0, 24), "image"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, message: str) -> None:
    assert message in refusal(data)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.frombytes("I;16", (32, 24), GREY.astype("<u2").tobytes())),
        png(2, 1, 16, 2, bytes(1 + 2 * 6)),
        png(2, 1, 16, 4, bytes(1 + 2 * 4)),
        png(2, 1, 16, 6, bytes(1 + 2 * 8)),
    ],
    ids=["grey", "colour", "grey and alpha", "colour and alpha"],
)
def test_16_bit_pictures_are_refused(data: bytes) -> None:
    assert "send 8 bits per channel" in refusal(data)


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (8000, 8000), (1, LIMIT + 1), (2**31 - 1, 2**31 - 1)])
def test_a_huge_picture_is_refused_by_its_header_alone(width: int, height: int) -> None:
    data = png(width, height)
    refusal(data)  # Pillow is loaded
    tracemalloc.start()
    try:
        assert f"exceeds the limit of {LIMIT} pixels" in refusal(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_limit_itself_is_accepted() -> None:
    assert decode(encoded(RGB), 24 * 32).shape == RGB.shape
    assert refusal(encoded(RGB), 24 * 32 - 1) == "image of 32×24 exceeds the limit of 767 pixels"


def test_damaged_pictures_are_decoded_or_refused() -> None:
    """Seeded damage to every format, mostly in the headers: no other exception comes out."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = "a picture"
    originals = [
        encoded(RGB, "JPEG", exif=exif),
        encoded(RGB, exif=exif),
        encoded(RGB, "WEBP", exif=exif),
        encoded(palette(), "BMP"),
        encoded(palette(), transparency=3),
    ]
    rng = random.Random(4)
    refused = 0
    for _ in range(800):
        for original in originals:
            damaged = bytearray(original)
            for _ in range(rng.randint(1, 4)):
                end = len(damaged) if rng.random() < 0.3 else 200
                damaged[rng.randrange(end)] = rng.randrange(256)
            try:
                assert decode(bytes(damaged[: rng.choice([None, None, -1, -50])]), 10**6).shape[2] == 3
            except ImageError:
                refused += 1
    assert 500 < refused < 3500


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 6, 7, 8, 9, 11, 13])
@pytest.mark.parametrize(
    "tag", ["ImageWidth", "BitsPerSample", "ImageDescription", "XResolution", "DateTime", "GPSInfo"]
)
def test_unusual_exif_does_not_spoil_a_picture(tag: str, kind: int) -> None:
    """A tag with a value of whatever type of at most 4 bytes, beside an orientation."""
    tags = [(ExifTags.Base.Orientation, 3, 6), (ExifTags.Base[tag], kind, 0x41)]
    entries = b"".join(struct.pack("<HHII", number, of_type, 1, value) for number, of_type, value in sorted(tags))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert decode(encoded(RGB, "JPEG", exif=exif), LIMIT).shape == (32, 24, 3)


@pytest.mark.parametrize("dpi", [None, (72, 72), (300, 300)], ids=str)
@pytest.mark.parametrize(
    "exif", [b"", b"b'Exif\\x00'", b"\0\x08\0\x02\x01\x12\0\x03", b"II*\0\xff\xff\xff\x7f", b"Exif\0\0II*\0"]
)
def test_unreadable_exif_is_no_damage(exif: bytes, dpi: tuple[int, int] | None) -> None:
    options = {} if dpi is None else {"dpi": dpi}
    assert decode(encoded(RGB, "JPEG", exif=b"Exif\0\0" + exif, **options), LIMIT).shape == (24, 32, 3)
    np.testing.assert_array_equal(decode(encoded(RGB, "WEBP", lossless=True, exif=b"Exif\0\0" + exif), LIMIT), RGB)


@pytest.mark.parametrize("orientation", [struct.pack("<HHII", 0x112, kind, 1, 6) for kind in (0, 2, 5, 7, 12, 99)])
def test_an_orientation_that_is_no_number_is_ignored(orientation: bytes) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + orientation + bytes(4)
    assert decode(encoded(RGB, "JPEG", exif=exif), LIMIT).shape == (24, 32, 3)


SCENE = np.kron(np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(256, 192), (37, 53), (1, 1)])
def test_jpegs_are_decoded_bit_for_bit_as_pillow_does(size: tuple[int, int], progressive: bool, sampling: int) -> None:
    image = Image.fromarray(SCENE).crop((0, 0, *size))
    options = {"subsampling": sampling, "progressive": progressive, "restart_marker_blocks": 3 * (1 - progressive)}
    for one in (image, image.convert("L"), image.convert("CMYK")):
        data = encoded(one, "JPEG", **(options if one.mode == "RGB" else {}))
        with Image.open(io.BytesIO(data)) as opened:
            np.testing.assert_array_equal(decode(data, LIMIT), np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_decodes_to_rubbish_is_refused(progressive: bool, mode: str) -> None:
    scene = np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(scene).convert(mode), "JPEG", progressive=progressive, quality=90))
    first = data.index(b"\xff\xda")
    at = data.index(b"\xff\xda", first + 2) + 14 if progressive else len(data) // 2
    noise = np.random.default_rng(2).integers(1, 255, 60, dtype=np.uint8).tobytes()
    data[at : at + 60] = noise
    Image.open(io.BytesIO(data)).convert("RGB").load()  # Pillow says nothing
    assert "damaged image: Corrupt JPEG data" in refusal(bytes(data))


def test_oddities_that_cost_no_pixels_are_no_damage() -> None:
    data = encoded(SCENE, "JPEG")
    clean = decode(data, LIMIT)
    later = data[:11] + b"\x09" + data[12:]  # a version of JFIF that nobody knows
    comment = data[:2] + b"\xff\xfe\xff\xf0" + b"\xff\xda" * 32_759 + data[2:]
    for odd in (later, comment, data + bytes(500), data + data, data[:2] + b"\xff\xff" + data[2:]):
        np.testing.assert_array_equal(decode(odd, LIMIT), clean)


@pytest.mark.parametrize("count", [1, 2, 18, 1000])
def test_zeros_before_the_end_of_a_jpeg_are_padding_and_other_bytes_damage(count: int) -> None:
    data = encoded(SCENE, "JPEG")
    padded = data[:-2] + bytes(count) + data[-2:]
    for odd in (padded, padded + b"after the end"):
        np.testing.assert_array_equal(decode(odd, LIMIT), decode(data, LIMIT))
    assert "extraneous bytes" in refusal(data[:-2] + bytes(count) + b"\x55" * 3 + data[-2:])


def test_zeros_behind_the_end_of_a_damaged_jpeg_are_not_taken_away_one_by_one() -> None:
    data = encoded(SCENE, "JPEG")
    assert "extraneous bytes" in refusal(data[:-2] + b"\x55" * 40 + data[-2:] + bytes(100_000) + b"\xff\xd9")


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = encoded(SCENE, "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert "more than 100 scans" in refusal(data[:-2] + 200 * last + b"\xff\xd9")


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
        assert strip_metadata(data) == data
