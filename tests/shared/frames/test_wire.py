"""The frame: what is written is read back, is the documented layout, and everything else is refused."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import FrameError
from shared.frames import wire
from shared.frames.bitstream import dtype_for
from shared.frames.pyramid import LEVELS, Sizes
from shared.frames.wire import Frame, Limits, Meta, Tensor

SIZES = Sizes((480, 640), (800, 1067), (800, 1088))
PREFIX = struct.Struct("<8sHHIQ")
DTYPES = ("float32", "float16", "uint8", "uint16")


def meta(domain: str = "feature", **fields: Any) -> Meta:
    return Meta(domain, "maskrcnn_resnet50_fpn", "0123456789abcdef", SIZES, **fields)


def quantised(name: str, bits: int, shape: tuple[int, int, int] = (3, 4, 5), per: int = 1) -> Tensor:
    rng = np.random.default_rng(bits)
    ranges = np.sort(rng.normal(size=(per, 2)), axis=1).astype(np.float32)
    return Tensor(name, rng.integers(0, 2**bits, shape).astype(dtype_for(bits)), bits, ranges)


def plain(name: str, dtype: str, shape: tuple[int, int, int] = (3, 4, 5)) -> Tensor:
    return Tensor(name, np.random.default_rng(0).normal(50, 9, shape).astype(dtype))


def joined(frame: Frame) -> bytes:
    return b"".join(wire.write(frame))


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 64)


def assemble(header: object, *buffers: bytes) -> bytes:
    """A frame made by this test alone: the header (its bytes, or what to encode) with a correct checksum."""
    raw = header if isinstance(header, bytes) else msgspec.msgpack.encode(header)
    prefix = PREFIX.pack(b"FEATLINK", 1, 0, len(raw), xxhash.xxh3_64_intdigest(raw))
    return b"".join(map(pad, (prefix + raw, *buffers)))


def fields(**changes: Any) -> dict[str, Any]:
    """The header of an image of 3×1×2 pixels, with changes; a field changed to ``...`` is left out."""
    header = {
        "domain": "image",
        "model": "m",
        "weights": "w",
        "original": (1, 2),
        "resized": (1, 2),
        "padded": (32, 32),
        "tensors": [info()],
        **changes,
    }
    return {name: value for name, value in header.items() if value is not ...}


def info(
    name: object = "image",
    dtype: object = "uint8",
    shape: object = (3, 1, 2),
    xxh3: object = xxhash.xxh3_64_intdigest(b"abcdef"),
    *more: object,
) -> list[object]:
    return [name, dtype, shape, xxh3, *more]


def same(got: Frame, wanted: Frame) -> None:
    assert got.meta == wanted.meta
    assert [tensor.name for tensor in got.tensors] == [tensor.name for tensor in wanted.tensors]
    for one, other in zip(got.tensors, wanted.tensors, strict=True):
        assert (one.data.dtype, one.data.shape, one.bits) == (other.data.dtype, other.data.shape, other.bits)
        assert one.data.tobytes() == other.data.tobytes()  # bit by bit, NaN included
        assert (one.ranges is None) == (other.ranges is None)
        if one.ranges is not None and other.ranges is not None:
            assert one.ranges.shape == other.ranges.shape
            assert one.ranges.tobytes() == other.ranges.tobytes()


def refusal(data: bytes, limits: Limits | None = None) -> str:
    """The one line with which a frame is refused."""
    with pytest.raises(FrameError) as caught:
        wire.read(data, limits)
    assert type(caught.value) is FrameError
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    return message


# --- what is written is read back -------------------------------------------------------------------------------

TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
SIDES = st.tuples(st.integers(1, 9000), st.integers(1, 9000))


@st.composite
def tensors(draw: st.DrawFn, name: str) -> Tensor:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        raw = rng.bytes(dtype.itemsize * int(np.prod(shape)))  # every bit pattern, NaN and subnormal too
        return Tensor(name, np.frombuffer(raw, dtype).reshape(shape))
    bits = draw(st.integers(1, 16))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    pairs = draw(st.sampled_from([1, shape[0]]))
    ends = draw(st.lists(st.tuples(finite, finite).map(sorted), min_size=pairs, max_size=pairs))
    samples = rng.integers(0, 2**bits, shape).astype(dtype_for(bits))
    return Tensor(name, samples, bits, np.array(ends, np.float32))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    domain = draw(st.sampled_from(["feature", "image"]))
    names = ["image"] if domain == "image" else draw(st.lists(st.sampled_from(LEVELS), min_size=1, unique=True))
    return Frame(
        Meta(
            domain,
            draw(TEXT),
            draw(TEXT),
            Sizes(draw(SIDES), draw(SIDES), draw(SIDES)),
            image_id=draw(st.none() | st.integers(0, 2**63 - 1)),
            key=draw(TEXT),
            condition=draw(st.none() | st.dictionaries(TEXT, JSON, max_size=3)),
            extensions=draw(st.dictionaries(TEXT, JSON, max_size=3)),
        ),
        tuple(draw(tensors(name)) for name in names),
    )


@settings(max_examples=80)
@given(frames())
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    parts = wire.write(frame)
    data = b"".join(parts)
    same(wire.read(data), frame)
    assert wire.nbytes(parts) == len(data)
    assert len(data) % 64 == 0
    assert joined(frame) == data, "the same content gives the same bytes"
    assert joined(wire.read(data)) == data


def test_the_layout_is_the_documented_one() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(3, 1, 2)
    samples = np.array([[[1, 2, 3]]], np.uint8)
    frame = Frame(meta("feature", image_id=5), (Tensor("p2", samples, 4, np.array([[-1, 2.5]], np.float32)),))
    packed, ends = bytes([0x21, 0x03]), struct.pack("<2f", -1, 2.5)
    header = {
        "domain": "feature",
        "model": "maskrcnn_resnet50_fpn",
        "weights": "0123456789abcdef",
        "original": (480, 640),
        "resized": (800, 1067),
        "padded": (800, 1088),
        "tensors": [["p2", "uint8", (1, 1, 3), xxhash.xxh3_64_intdigest(packed), 4, ends]],
        "image_id": 5,
    }
    assert joined(frame) == assemble(header, packed)
    same(
        wire.read(assemble(fields(), b"abcdef")),
        Frame(Meta("image", "m", "w", Sizes((1, 2), (1, 2), (32, 32))), (Tensor("image", pixels + ord("a")),)),
    )


@pytest.mark.parametrize("bits", range(1, 17))
def test_a_quantised_tensor_takes_its_bits_and_no_more(bits: int) -> None:
    frame = Frame(meta(), (quantised("p2", bits, (5, 7, 9)), quantised("p3", bits, (5, 7, 9), per=5)))
    payload = -(-5 * 7 * 9 * bits // 8)
    payload += -payload % 64
    header = PREFIX.unpack_from(joined(frame))[3] + PREFIX.size
    assert len(joined(frame)) == header + -header % 64 + 2 * payload


def test_no_buffer_is_copied() -> None:
    names = zip(LEVELS, DTYPES, strict=False)
    frame = Frame(meta(), (*(plain(name, dtype) for name, dtype in names), quantised("p6", 8)))
    parts = wire.write(frame)
    sent = [part for part in parts if isinstance(part, memoryview)]
    for part, tensor in zip(sent, frame.tensors, strict=True):
        assert np.shares_memory(np.frombuffer(part, np.uint8), tensor.data)
    data = np.frombuffer(b"".join(parts), np.uint8)
    for tensor in wire.read(data.data).tensors:
        assert np.shares_memory(tensor.data, data)
    wide = joined(Frame(meta(), (quantised("p2", 16),)))
    assert np.shares_memory(wire.read(wide).tensors[0].data, np.frombuffer(wide, np.uint8))


def test_strided_and_big_endian_tensors_are_written_as_their_values() -> None:
    values = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    frame = Frame(meta(), (Tensor("p2", values.T), Tensor("p3", values.astype(">f4"))))
    first, second = wire.read(joined(frame)).tensors
    np.testing.assert_array_equal(first.data, values.T)
    np.testing.assert_array_equal(second.data, values)


def test_buffers_start_at_multiples_of_64_in_the_frame() -> None:
    data = np.frombuffer(joined(Frame(meta(), (plain("p2", "uint8"), plain("p3", "float32")))), np.uint8)
    for tensor in wire.read(data.data).tensors:
        offset = tensor.data.__array_interface__["data"][0] - data.__array_interface__["data"][0]
        assert offset % 64 == 0


def test_a_tensor_is_found_by_name() -> None:
    frame = wire.read(joined(Frame(meta(), (plain("p2", "uint8"), plain("p4", "uint8")))))
    assert frame.tensor("p4") is frame.tensors[1]
    with pytest.raises(FrameError, match="frame has no tensor 'p3'"):
        frame.tensor("p3")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (plain("p2", "float64"), "p2: cannot send float64"),
        (plain("p2", "int8"), "p2: cannot send int8"),
        (Tensor("p2", np.zeros((3, 4), np.uint8)), r"p2: cannot send uint8 of shape \(3, 4\)"),
        (Tensor("p2", np.zeros((1, 1, 1), np.uint8), 4), "p2: bits and ranges come together"),
        (Tensor("p2", np.full((1, 1, 1), 16, np.uint8), 4, np.zeros((1, 2), np.float32)), "does not fit into 4 bits"),
        (Tensor("p2", np.zeros((1, 1, 1), np.uint8), 9, np.zeros((1, 2), np.float32)), "must be uint16"),
        (Tensor("p2", np.zeros((1, 1, 1), np.uint8), 17, np.zeros((1, 2), np.float32)), "bit depth 17"),
    ],
)
def test_what_cannot_be_sent_is_not_written(tensor: Tensor, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        wire.write(Frame(meta(), (tensor,)))


# --- old readers ------------------------------------------------------------------------------------------------


def test_fields_of_a_later_writer_are_ignored() -> None:
    header = fields(later={"anything": [1, "two", None]}, tensors=[info("image", "uint8", (3, 1, 2), info()[3], None)])
    plain_frame = wire.read(assemble(fields(), b"abcdef"))
    same(wire.read(assemble(header, b"abcdef")), plain_frame)
    longer = fields(tensors=[[*info(), None, None, "an element of a later version", {"and": "another"}]])
    same(wire.read(assemble(longer, b"abcdef")), plain_frame)


def test_extensions_are_kept() -> None:
    frame = wire.read(assemble(fields(extensions={"x": [1, {"y": "z"}]}), b"abcdef"))
    assert frame.meta.extensions == {"x": [1, {"y": "z"}]}


# --- damage -----------------------------------------------------------------------------------------------------

SMALL = {
    "float": Frame(meta(), (plain("p2", "float32", (2, 2, 2)),)),
    "bits": Frame(meta(image_id=7, key="k"), (quantised("p2", 3, (1, 1, 3)), quantised("p3", 12, (2, 1, 3), per=2))),
    "image": Frame(meta("image", condition={"seed": 1}, extensions={"a": 1}), (plain("image", "uint8", (3, 1, 2)),)),
}


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
        except FrameError as error:
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
    "payload of another frame": (fields(tensors=[info(xxh3=1)]), "image: checksum does not match"),
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
    "checksum as text": (fields(tensors=[info(xxh3="1")]), "Expected `int`, got `str`"),
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


# --- limits -----------------------------------------------------------------------------------------------------


def test_a_frame_beyond_the_limit_is_refused_at_its_first_byte_too_many() -> None:
    data = joined(SMALL["float"])
    wire.read(data, Limits(frame_bytes=3 * 800 * 1088))
    assert refusal(bytes(3 * 800 * 1088 + 1), Limits(frame_bytes=3 * 800 * 1088)).startswith("frame of 2611201 bytes")


@pytest.mark.parametrize("bits", [1, 4, 9, 15])
def test_samples_may_not_unpack_beyond_the_limit(bits: int) -> None:
    """A frame of 1-bit samples is an eighth of the memory that it takes unpacked."""
    frame = Frame(Meta("image", "m", "w", Sizes((1, 1), (1, 1), (1, 1))), (quantised("image", bits, (1, 100, 120)),))
    data = joined(frame)
    memory = frame.tensors[0].data.nbytes
    same(wire.read(data, Limits(frame_bytes=memory)), frame)
    assert len(data) < memory
    assert (
        refusal(data, Limits(frame_bytes=memory - 1)) == f"header describes more than the limit of {memory - 1} bytes"
    )


def test_the_header_is_limited_before_it_is_read() -> None:
    data = assemble(fields(extensions={"long": "x" * 500}), b"abcdef")
    length = PREFIX.unpack_from(data)[3]
    wire.read(data, Limits(header_bytes=length))
    assert (
        refusal(data, Limits(header_bytes=length - 1)) == f"header of {length} bytes exceeds the limit of {length - 1}"
    )
    claim = PREFIX.pack(b"FEATLINK", 1, 0, 2**32 - 1, 0)
    assert refusal(claim).startswith("header of 4294967295 bytes exceeds")


def test_the_number_of_tensors_is_limited() -> None:
    data = joined(Frame(meta(), tuple(plain(name, "uint8") for name in LEVELS)))
    wire.read(data, Limits(tensors=5))
    assert refusal(data, Limits(tensors=4)) == "5 tensors, allowed are 1..4"


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (b"", "truncated: 0 bytes, a frame has at least 24"),
        (b"FEATLINK", "truncated: 8 bytes, a frame has at least 24"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", "not a Featlink frame: wrong magic"),
        (PREFIX.pack(b"FEATLINK", 2, 0, 10, 0), "frame version 2, this reader knows 1"),
        (PREFIX.pack(b"FEATLINK", 1, 1, 10, 0), "reserved prefix field is not zero"),
        (PREFIX.pack(b"FEATLINK", 1, 0, 65537, 0), "header of 65537 bytes exceeds the limit of 65536"),
    ],
)
def test_garbage_shows_in_the_first_bytes(prefix: bytes, message: str) -> None:
    with pytest.raises(FrameError) as caught:
        wire.check_prefix(prefix, Limits())
    assert str(caught.value) == message
    assert refusal(prefix) == message
