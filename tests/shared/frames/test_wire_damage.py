"""Damaged frames, and frames that lie with a correct checksum, are refused with one reason."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from frames_by_hand import (
    SMALL,
    assemble,
    fields,
    info,
    joined,
    refusal,
    same,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink.shared.errors import ConditionError, FrameError
from featlink.shared.frames import wire

# --- damage -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_single_byte_matters() -> None:
    original = joined(SMALL["image"])
    for at in range(len(original)):
        damaged = bytearray(original)
        for value in range(256):
            if value != original[at]:
                damaged[at] = value
                with pytest.raises(FrameError):
                    wire.read(damaged)
    same(wire.read(original), SMALL["image"])


def damage(rng: random.Random, sources: list[bytes]) -> Iterator[bytes]:
    """Every bit flipped, every length, and seeded substitutions, deletions, insertions, swaps and splices."""
    for data in sources:
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            yield bytes(flipped)
        for length in range(len(data)):
            yield data[:length]
        for extra in (1, 63, 64, 65, 1000):
            yield data + bytes(extra)
            yield data + rng.randbytes(extra)
            yield bytes(extra) + data
    while True:
        data, other = rng.choice(sources), rng.choice(sources)
        at, to = rng.randrange(len(data)), rng.randrange(len(other))
        count = rng.randrange(1, 20)
        yield data[:at] + rng.randbytes(count) + data[at + count :]
        yield data[:at] + data[at + count :]
        yield data[:at] + rng.randbytes(count) + data[at:]
        yield data[:at] + other[to:]
        yield data[:at] + other[at:]
        words = [data[start : start + 8] for start in range(0, len(data), 8)]
        rng.shuffle(words)
        yield b"".join(words)


@pytest.mark.slow
def test_a_hundred_thousand_damaged_frames_are_refused() -> None:
    sources = [joined(frame) for frame in SMALL.values()]
    whole = set(sources)
    messages: list[str] = []
    for data in damage(random.Random(0), sources):
        if data in whole:
            continue
        try:
            wire.read(data)
        except FrameError as error:
            messages.append(str(error))
        else:
            pytest.fail(f"accepted: {data.hex()}")
        if len(messages) == 100_000:
            break
    assert all(len(message.splitlines()) == 1 for message in set(messages))


@settings(max_examples=200)
@given(st.binary(max_size=300), st.binary(max_size=40))
def test_garbage_with_a_correct_header_checksum_is_refused(header: bytes, body: bytes) -> None:
    refusal(assemble(header, body))


def test_mutated_headers_with_a_correct_checksum_are_read_or_refused() -> None:
    rng = random.Random(1)
    original = msgspec.msgpack.encode(
        fields(image_id=1, condition={"steps": []}, extensions={"a": [1.5, "b"]}, later=[{"c": None}])
    )
    read, messages = 0, set()
    for _ in range(20_000):
        header = bytearray(original)
        for _ in range(rng.randint(1, 3)):
            header[rng.randrange(len(header))] = rng.randrange(256)
        try:
            wire.read(assemble(bytes(header), b"abcdef"))
            read += 1  # a changed model name is as good as the old one
        except (FrameError, ConditionError) as error:
            messages.add(str(error))
    assert 1000 < read < 19_000
    assert all(len(message.splitlines()) == 1 for message in messages)


# --- lies -------------------------------------------------------------------------------------------------------

TWO = struct.pack("<2f", 0, 1)
BINARY = info()[3]
ENCODED = msgspec.msgpack.encode(fields())


def unknown(raw: bytes) -> bytes:
    """The header with raw msgpack as the value of an unknown field."""
    return msgspec.msgpack.encode(fields(later="HERE")).replace(b"\xa4HERE", raw)


def extension(raw: bytes) -> bytes:
    """The header with raw msgpack as the value of an extension."""
    return msgspec.msgpack.encode(fields(extensions={"later": "HERE"})).replace(b"\xa4HERE", raw)


LIES: dict[str, tuple[object, str]] = {
    # shapes
    "huge": (fields(tensors=[info(shape=(65535, 65535, 65535))]), "describes more than the limit"),
    "beyond every integer": (fields(tensors=[info(shape=(2**64 - 1,) * 3)]), "is outside 1..65535"),
    "zero side": (fields(tensors=[info(shape=(3, 0, 2))]), "is outside 1..65535"),
    "negative side": (fields(tensors=[info(shape=(3, -1, -2))]), "is outside 1..65535"),
    "two dimensions": (fields(tensors=[info(shape=(3, 2))]), "Expected `array` of length 3"),
    "four dimensions": (fields(tensors=[info(shape=(3, 1, 2, 1))]), "Expected `array` of length 3"),
    "fractional side": (fields(tensors=[info(shape=(3, 1.5, 2))]), "Expected `int`, got `float`"),
    "larger than sent": (fields(tensors=[info(shape=(3, 50, 2))]), "its header describes"),
    "all together too large": (
        fields(domain="feature", tensors=[info(f"p{k}", "float32", (256, 256, 256)) for k in range(2, 7)]),
        "describes more than the limit",
    ),
    # image sizes
    "no height": (fields(original=(0, 2)), r"image size \(0, 2\) is outside"),
    "negative width": (fields(resized=(1, -2)), r"image size \(1, -2\) is outside"),
    "huge side": (fields(padded=(1, 65536)), r"image size \(1, 65536\) is outside"),
    "huge area": (fields(original=(65535, 65535)), r"\(65535, 65535\) pixels exceeds the limit"),
    # names and types
    "no tensors": (fields(tensors=[]), "0 tensors, allowed are 1..8"),
    "nine tensors": (fields(tensors=[info()] * 9), "9 tensors, allowed are 1..8"),
    "many tensors": (fields(tensors=[["image", "uint8", [1, 1, 1], 0]] * 2000), "2000 tensors"),
    "a name twice": (fields(tensors=[info(), info()]), "occurs twice"),
    "unknown name": (fields(tensors=[info("p7")]), "no tensor 'p7'"),
    "image among features": (fields(domain="feature"), "the feature domain has no tensor 'image'"),
    "features among images": (fields(tensors=[info("p2")]), "the image domain has no tensor 'p2'"),
    "name with a line break": (fields(tensors=[info("p2\np3")]), r"no tensor 'p2\\np3'"),
    "endless name": (fields(tensors=[info("p" * 9999)]), "length <= 16"),
    "unknown dtype": (fields(tensors=[info(dtype="int32")]), "unknown dtype 'int32'"),
    "object dtype": (fields(tensors=[info(dtype="O")]), "unknown dtype 'O'"),
    "big-endian dtype": (fields(tensors=[info(dtype=">f4")]), "unknown dtype '>f4'"),
    "dtype of another size": (fields(tensors=[info(dtype="float32")]), "image: checksum does not match"),
    "unknown domain": (fields(domain="audio"), "unknown domain 'audio'"),
    "empty domain": (fields(domain=""), "unknown domain ''"),
    "endless domain": (fields(domain="d" * 9999), "length <= 16"),
    "payload of another frame": (fields(tensors=[info(checksum=1)]), "image: checksum does not match"),
    # quantisation
    "bits alone": (fields(tensors=[info(*info(), 8)]), "bits and ranges come together"),
    "ranges alone": (fields(tensors=[info(*info(), None, TWO)]), "bits and ranges come together"),
    "no bits": (fields(tensors=[info(*info(), 0, TWO)]), "bit depth 0 is outside 1..16"),
    "17 bits": (fields(tensors=[info(*info(), 17, TWO)]), "bit depth 17 is outside 1..16"),
    "negative bits": (fields(tensors=[info(*info(), -8, TWO)]), "bit depth -8 is outside"),
    "bits of another dtype": (fields(tensors=[info(*info(), 12, TWO)]), "12 bits do not go with uint8"),
    "bits of floats": (fields(tensors=[info("image", "float32", (3, 1, 2), BINARY, 8, TWO)]), "do not go with float32"),
    "no range": (fields(tensors=[info(*info(), 8, b"")]), "0 bytes of ranges"),
    "half a range": (fields(tensors=[info(*info(), 8, TWO[:4])]), "4 bytes of ranges"),
    "two ranges for three channels": (fields(tensors=[info(*info(), 8, TWO * 2)]), "16 bytes of ranges"),
    "reversed range": (fields(tensors=[info(*info(), 8, struct.pack("<2f", 1, 0))]), "not finite or not ordered"),
    "infinite range": (fields(tensors=[info(*info(), 8, struct.pack("<2f", 0, np.inf))]), "not finite or not ordered"),
    "NaN range": (fields(tensors=[info(*info(), 8, struct.pack("<2f", np.nan, 1))]), "not finite or not ordered"),
    "NaN in the last range": (
        fields(tensors=[info(*info(), 8, TWO * 2 + struct.pack("<2f", 0, np.nan))]),
        "not finite or not ordered",
    ),
    "ranges as text": (fields(tensors=[info(*info(), 8, "12345678")]), "Expected `bytes"),
    # other types
    "no domain": (fields(domain=...), "missing required field `domain`"),
    "no tensors field": (fields(tensors=...), "missing required field `tensors`"),
    "domain as number": (fields(domain=1), "Expected `str`, got `int`"),
    "sizes as text": (fields(original="1x2"), "Expected `array`, got `str`"),
    "tensors as object": (fields(tensors={"image": info()}), "Expected `array`, got `object`"),
    "tensor as object": (fields(tensors=[{"name": "image"}]), "Expected `array`, got `object`"),
    "checksum as text": (fields(tensors=[info(checksum="1")]), "Expected `int`, got `str`"),
    "image id as text": (fields(image_id="7"), "Expected `int"),
    "negative image id": (fields(image_id=-1), "Expected `int` >= 0"),
    "image id beyond a database": (fields(image_id=2**63), "Expected `int` <= 9223372036854775807"),
    "condition as text": (fields(condition="identity"), "Expected `object"),
    "extensions as list": (fields(extensions=[1]), "Expected `object`, got `array`"),
    "a list": ([1, 2, 3], "Expected `object`, got `array`"),
    "a number": (7, "Expected `object`, got `int`"),
    # msgpack itself
    "empty": (b"", "header"),
    "trailing bytes": (ENCODED + b"\xc0", "trailing characters"),
    "text that is not UTF-8": (ENCODED.replace(b"\xa1m", b"\xa1\xff"), "can't decode byte 0xff"),
    "nested lists": (unknown(b"\x91" * 60_000), "recursion"),
    "nested objects": (unknown(b"\x81\xa1a" * 20_000), "recursion"),
    "reserved byte": (unknown(b"\xc1"), "invalid opcode"),
    "list of four billion": (unknown(b"\xdd\xff\xff\xff\xff"), "truncated"),
    "nested lists in an extension": (extension(b"\x91" * 60_000), "recursion"),
    "list of four billion in an extension": (extension(b"\xdd\xff\xff\xff\xff"), "truncated"),
    "object of four billion in an extension": (extension(b"\xdf\xff\xff\xff\xff"), "truncated"),
    "text of four gigabytes in an extension": (extension(b"\xdb\xff\xff\xff\xff"), "truncated"),
    "bytes of four gigabytes in an extension": (extension(b"\xc6\xff\xff\xff\xff"), "truncated"),
    "text in an extension that is not UTF-8": (extension(b"\xa1\xff"), "can't decode byte 0xff"),
    "object as a key in an extension": (extension(b"\x81\x80\x01"), "keys must be hashable"),
    "time that cannot be in an extension": (extension(b"\xd7\xff" + b"\xff" * 8), "timestamp"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_with_a_correct_checksum_is_refused(lie: str) -> None:
    header, reason = LIES[lie]
    data = assemble(header, b"abcdef")
    tracemalloc.start()
    try:
        assert refusal(data), reason
        with pytest.raises(FrameError, match=reason):
            wire.read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # whatever it claims to hold
    finally:
        tracemalloc.stop()
