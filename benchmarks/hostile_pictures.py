"""Broken and hostile pictures against a live edge: the right answer or a 4xx, in bounded time and memory.

    python -m benchmarks.hostile_pictures

Starts the three services as `featlink up` does, with a small network, and sends pictures made from three bundled
scenes: cut, damaged, with wrong headers, bombs, odd modes and metadata, extreme shapes, animations, files of two kinds
at once. Of each is known whether it is to be answered (200), refused (4xx), or, where damage may go unseen, either. The
last line is JSON; the exit code is 1 if an answer was another, a service died or took more than 30 s, or memory grew.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import random
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator

import httpx
import numpy as np
from PIL import ExifTags, Image

from benchmarks.load import held
from featlink.launcher import Stack, free_ports
from featlink.starter.bundle import SCENES

_SMALL = {"min_size": "96", "max_size": "128", "proposals": "50", "max_detections": "10", "cache_mb": "0"}
_SLOWEST_S = 30.0
_GROWTH_MIB = 200
"""What the allocator may keep after pictures of 50 megapixels."""

Case = tuple[str, bytes, str]
"""A name, a file, and what is expected: ``200``, ``4xx`` or ``either``."""


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, data: bytes, interlace: int = 0) -> bytes:
    """A PNG that claims a size and holds this (uncompressed) data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def cut_and_damaged(scene: Image.Image, number: int) -> Iterator[Case]:
    """Files that end early or whose bytes were changed."""
    chance = random.Random(number)
    forms = {
        "jpeg": saved(scene, "JPEG", quality=90),
        "progressive": saved(scene, "JPEG", quality=90, progressive=True),
        "png": saved(scene, "PNG"),
        "webp": saved(scene, "WEBP"),
        "bmp": saved(scene, "BMP"),
    }
    for form, data in forms.items():
        yield f"{number} {form}", data, "200"
        for share in (0.02, 0.5, 0.95):
            yield f"{number} {form} cut at {share}", data[: int(share * len(data))], "4xx"
        for kind in ("header", "data", "zeros"):
            changed = bytearray(data)
            at = chance.randrange(8, 60) if kind == "header" else chance.randrange(len(data) // 4, len(data) - 300)
            if kind == "zeros":
                changed[at : at + 200] = bytes(200)
            else:
                changed[at] ^= 1 << chance.randrange(8)
            # a PNG has checksums; a bit of the others' pixels is a bit of another picture
            seen = form == "png" and kind != "header"
            yield f"{number} {form} {kind} damaged", bytes(changed), "4xx" if seen else "either"
        yield f"{number} {form} with more behind", data + b"PK\x03\x04" + bytes(1000), "200"
        yield f"{number} {form} behind a line", b"GET / HTTP/1.1\r\n" + data, "4xx"
    jpeg = bytearray(forms["jpeg"])
    at = jpeg.index(b"\xff\xda") + len(jpeg) // 3
    jpeg[at : at + 2000] = chance.randbytes(2000).replace(b"\xff", b"\xfe")
    yield f"{number} jpeg of rubbish", bytes(jpeg), "4xx"


def wrong_headers(scene: Image.Image) -> Iterator[Case]:
    """Headers that promise something else than what follows."""
    jpeg, bmp, webp = saved(scene, "JPEG"), saved(scene, "BMP"), saved(scene, "WEBP")
    frame = jpeg.index(b"\xff\xc0")
    for name, height, width in (("no rows", 0, 64), ("more rows", 60_000, 64), ("huge", 65_535, 65_535)):
        yield f"jpeg of {name}", jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :], "4xx"
    for size in ((0, 10), (-10, 10), (2**31 - 1, 2**31 - 1), (100_000, 100_000)):
        yield f"bmp of {size}", bmp[:18] + struct.pack("<ii", *size) + bmp[26:], "4xx"
    yield "bmp of no bits", bmp[:28] + bytes(2) + bmp[30:], "4xx"
    yield "webp of another length", webp[:4] + struct.pack("<I", 12) + webp[8:], "either"
    for depth, colour in ((3, 2), (8, 1), (8, 5), (16, 3), (1, 2)):
        yield f"png of depth {depth}, colour {colour}", png(8, 8, depth, colour, bytes(1000)), "4xx"
    for kind in (
        b"GIF89a",
        b"II*\0",
        b"MM\0*",
        b"%PDF-1.7",
        b"<svg/>",
        b"#!/bin/sh",
        b"P6 1 1 255 ",
        b"8BPS",
        b"\0\0\0\x18ftyp",
    ):
        yield f"{kind!r} and zeros", kind + bytes(500), "4xx"
    for form in ("GIF", "TIFF", "PPM", "ICO", "TGA", "JPEG2000"):
        yield f"a {form}", saved(scene.resize((64, 64)), form), "4xx"
    yield "nothing", b"", "4xx"
    yield "one byte", b"\xff", "4xx"


def bombs(scene: Image.Image) -> Iterator[Case]:
    """Small files that would take much memory or time."""
    for size in ((50_000, 50_000), (7_100, 7_100), (1, 50_000_001), (2**31 - 1, 2**31 - 1)):
        yield f"png of {size}", png(*size, 8, 2, bytes(1000)), "4xx"
    yield "png whose data is too much", png(8, 8, 8, 2, bytes(50_000_000)), "either"
    yield "png of 49 megapixels and no data", png(7_000, 7_000, 8, 2, b""), "4xx"
    yield "png of 49 megapixels", png(7_000, 7_000, 8, 0, bytes(7_000 * 7_001)), "200"
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    plain = saved(scene, "PNG")
    yield "png with a bomb as its text", plain[:33] + text + plain[33:], "200"
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    yield "png with a bomb as its profile", plain[:33] + profile + plain[33:], "200"
    large = saved(Image.new("L", (7_000, 7_000), 90), "JPEG", progressive=True, quality=1)
    start = large.rindex(b"\xff\xda")
    yield "jpeg of 3,000 scans", large[:-2] + large[start:-2] * 3_000 + b"\xff\xd9", "4xx"
    yield "webp of 49 megapixels", saved(Image.new("RGB", (7_000, 7_000), (9, 90, 9)), "WEBP"), "200"


def odd_modes(scene: Image.Image) -> Iterator[Case]:
    """Kinds of pixels."""
    alpha = scene.copy()
    alpha.putalpha(scene.convert("L"))
    for mode in ("1", "L", "P", "RGB"):
        yield f"png {mode}", saved(scene.convert(mode), "PNG"), "200"
    for mode in ("LA", "RGBA"):
        yield f"png {mode}", saved(alpha.convert(mode), "PNG"), "200"
    for mode in ("L", "CMYK", "RGB"):
        yield f"jpeg {mode}", saved(scene.convert(mode), "JPEG"), "200"
    for mode in ("1", "L", "P", "RGB"):
        yield f"bmp {mode}", saved(scene.convert(mode), "BMP"), "200"
    yield "webp RGBA", saved(alpha, "WEBP", lossless=True), "200"
    yield "png of 16 bits", saved(Image.fromarray(np.zeros((64, 64), np.uint16)), "PNG"), "4xx"
    yield "png of 16 bits in colour", png(8, 8, 16, 2, bytes(8 * 49)), "4xx"
    yield "interlaced png", png(8, 8, 8, 0, bytes(200), interlace=1), "either"
    for sampling in (0, 1, 2):
        yield f"jpeg with sampling {sampling}", saved(scene, "JPEG", subsampling=sampling), "200"
    yield "jpeg of R, G and B", saved(scene, "JPEG", keep_rgb=True), "200"
    yield "jpeg with restarts", saved(scene, "JPEG", restart_marker_blocks=3), "200"


def odd_metadata(scene: Image.Image) -> Iterator[Case]:
    """EXIF and other things beside the pixels."""
    for orientation in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65_535):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        yield f"turned {orientation}", saved(scene, "JPEG", exif=exif), "200"
    rng = random.Random(7)
    for length in (0, 1, 5, 14, 200, 60_000):
        yield f"exif of {length} random bytes", saved(scene, "JPEG", exif=b"Exif\0\0" + rng.randbytes(length)), "200"
    loop = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    yield "exif that points to itself", saved(scene, "JPEG", exif=loop), "200"
    yield "jpeg with a comment", saved(scene, "JPEG", comment=b"\xff\xda" * 20_000), "200"
    yield "jpeg with a large profile", saved(scene, "JPEG", icc_profile=rng.randbytes(500_000)), "200"


def shapes() -> Iterator[Case]:
    """Sizes from one pixel on."""
    for width, height, expected in (
        *((1, 1, "200"), (2, 2, "200"), (7, 5, "200"), (64, 60, "200"), (6_000, 8_000, "200"), (8_000, 6_000, "200")),
        *((1, 3_000, "4xx"), (3_000, 1, "4xx"), (20, 9_000, "4xx"), (65_000, 3, "4xx"), (8_000, 8_000, "4xx")),
        *((90, 4_000, "either"), (4_000, 90, "either")),
    ):
        yield f"{width}×{height}", saved(Image.new("RGB", (width, height), (200, 30, 60)), "JPEG"), expected


def several(scene: Image.Image) -> Iterator[Case]:
    """Animations, and files that are two things at once."""
    other = scene.rotate(180)
    for form in ("WEBP", "PNG"):
        yield f"animated {form}", saved(scene, form, save_all=True, append_images=[other] * 3), "200"
    yield "two jpegs in one", saved(scene, "MPO", save_all=True, append_images=[other]), "200"
    yield "animated GIF", saved(scene, "GIF", save_all=True, append_images=[other]), "4xx"
    jpeg = saved(scene, "JPEG")
    script = b"<script>alert(1)</script>"
    comment = b"\xff\xfe" + struct.pack(">H", len(script) + 2) + script
    yield "jpeg and page", jpeg[:2] + comment + jpeg[2:], "200"
    yield "page and jpeg", b"<html>" + script + jpeg, "4xx"
    yield "jpeg and archive", jpeg + b"PK\x05\x06" + bytes(18), "200"
    yield "pickle", b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x94.", "4xx"


def cases() -> list[Case]:
    """All pictures, the same ones each time."""
    names = ("000000000001.jpg", "000000000002.jpg", "000000000003.jpg")
    scenes = [Image.open(SCENES / "val" / name).convert("RGB") for name in names]
    made = [case for number, scene in enumerate(scenes) for case in cut_and_damaged(scene, number)]
    for kind in (wrong_headers, bombs, odd_modes, odd_metadata, several):
        made += kind(scenes[0])
    return made + list(shapes())


def main() -> None:
    """Send, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="memory is compared after the first and the last")
    given = parser.parse_args()
    pictures = cases()
    seen: collections.Counter[str] = collections.Counter()
    wrong, slowest, memory = [], ("", 0.0), []
    with tempfile.TemporaryDirectory() as folder:
        settings = _SMALL | {"database_url": f"sqlite:///{folder}/runs.sqlite"}
        with Stack(free_ports(), settings, lambda *_: None) as stack:
            stack.wait_ready()
            pids = stack.pids()
            with httpx.Client(base_url=stack.ports.edge_url, timeout=120, trust_env=False) as client:
                for _ in range(given.rounds):
                    for name, data, expected in pictures:
                        started = time.monotonic()
                        response = client.post("/v1/infer", content=data)
                        slowest = max(slowest, (name, time.monotonic() - started), key=lambda pair: pair[1])
                        seen[str(response.status_code)] += 1
                        found = "200" if response.status_code == 200 else f"{response.status_code // 100}xx"
                        if found not in {"200", "4xx"} or expected not in ("either", found):
                            wrong.append([name, response.status_code, response.text[:200]])
                    memory.append({name: numbers["MiB"] for name, numbers in held(stack).items()})
            alive = stack.pids() == pids
    grown = {name: memory[-1][name] - memory[0][name] for name in memory[0]}
    result = {"pictures": len(pictures), "statuses": dict(seen), "wrong": wrong, "alive": alive}
    print(json.dumps({**result, "slowest": [slowest[0], round(slowest[1], 2)], "MiB": memory, "grown": grown}))
    sys.exit(bool(wrong) or not alive or slowest[1] > _SLOWEST_S or max(grown.values()) > _GROWTH_MIB)


if __name__ == "__main__":
    main()
