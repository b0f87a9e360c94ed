"""The frame: what is written is read back, is the documented layout, and stays within its limits."""

from __future__ import annotations

import struct
from functools import partial

import msgspec
import numpy as np
import pytest
import xxhash
from frames_by_hand import (
    DTYPES,
    PREFIX,
    SMALL,
    assemble,
    fields,
    info,
    joined,
    meta,
    plain,
    quantised,
    refusal,
    same,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConditionError, FrameError
from featlink.shared.features import FeatureSpec, Sizes, TensorSpec
from featlink.shared.fpn import FPN
from featlink.shared.frames import wire
from featlink.shared.frames.bitstream import dtype_for
from featlink.shared.frames.wire import Frame, Limits, Meta, Tensor

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


CONDITIONS = (
    "identity",
    "quantize:bits=4 @ seed=4294967295",
    "a(b=1, c=0.1, d=true, e=x) | f @ bit_depth=16, range=channel",
)
"""Of either domain; their steps are not looked up."""


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    domain = draw(st.sampled_from(["feature", "image"]))
    names = ["image"] if domain == "image" else draw(st.lists(st.sampled_from(FPN.names), min_size=1, unique=True))
    return Frame(
        Meta(
            domain,
            draw(TEXT),
            draw(TEXT),
            Sizes(draw(SIDES), draw(SIDES), draw(SIDES)),
            image_id=draw(st.none() | st.integers(0, 2**63 - 1)),
            key=draw(TEXT),
            condition=draw(st.none() | st.sampled_from(CONDITIONS).map(partial(parse, domain=domain))),
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
    names = zip(FPN.names, DTYPES, strict=False)
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
    data = joined(Frame(meta(), tuple(plain(name, "uint8") for name in FPN.names)))
    wire.read(data, Limits(tensors=5))
    assert refusal(data, Limits(tensors=4)) == "5 tensors, allowed are 1..4"


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (b"", "truncated: 0 bytes, a frame has at least 24"),
        (b"FEATLINK", "truncated: 8 bytes, a frame has at least 24"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", "not a Featlink frame: wrong magic"),
        (PREFIX.pack(b"FEATLINK", 2, 0, 10, 0), "frame version 2, this reader knows 1"),
        (PREFIX.pack(b"FEATLINK", 1, 2, 10, 0), "checksums of kind 2, this reader knows 0 to 1"),
        (PREFIX.pack(b"FEATLINK", 1, 0, 65537, 0), "header of 65537 bytes exceeds the limit of 65536"),
    ],
)
def test_garbage_shows_in_the_first_bytes(prefix: bytes, message: str) -> None:
    with pytest.raises(FrameError) as caught:
        wire.check_prefix(prefix, Limits())
    assert str(caught.value) == message
    assert refusal(prefix) == message


def test_a_clean_frame_stands_behind_the_one_that_is_counted() -> None:
    (first, second), third = (joined(SMALL[name]) for name in ("image", "float")), joined(SMALL["bits"])
    frame, reference, length = wire.read_with_reference(first + second)
    same(frame, SMALL["image"])
    assert reference is not None
    same(reference, SMALL["float"])
    assert length == len(first)
    assert wire.read_with_reference(first)[1:] == (None, len(first))
    with pytest.raises(FrameError, match="its header describes"):
        wire.read_with_reference(first + second + third)
    with pytest.raises(FrameError, match="truncated"):
        wire.read_with_reference(first + b"x")
    with pytest.raises(FrameError, match="exceeds the limit"):
        wire.read_with_reference(first + second, Limits(frame_bytes=len(first)))


def test_a_condition_that_does_not_parse_is_refused() -> None:
    data = assemble(msgspec.msgpack.encode(fields(condition={"steps": [{"type": "no name"}]})), b"abcdef")
    with pytest.raises(ConditionError, match="type"):
        wire.read(data)


FINE = FeatureSpec((TensorSpec("fine", 3, 8), TensorSpec("coarse", 3, 16, source="fine")), divisor=16)


def test_features_of_another_model_are_described_in_the_header_and_those_of_a_pyramid_are_not() -> None:
    frame = Frame(meta(features=FINE), (Tensor("fine", np.zeros((3, 2, 2), np.float32)),))
    same(wire.read(joined(frame)), frame)
    assert wire.read(joined(SMALL["float"])).meta.features == FPN
    assert b"features" not in joined(SMALL["float"])
    with pytest.raises(FrameError, match="has no tensor 'p2'"):
        wire.read(joined(Frame(meta(features=FINE), SMALL["float"].tensors)))


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ([1, []], "at least one tensor"),
        ([0, [["a", 1, 1]]], "Expected `int` >= 1"),
        ([1, [["a", 1, 1], ["a", 1, 1]]], "two tensors are called"),
        ([1, [["a", 1, 1, "b"]]], "cannot be made of"),
        ([1, [["latent", 1, 1]]], "'latent' is no name"),
        ([1, [["a", 65536, 1]]], "Expected `int` <= 65535"),
        ([1, [[f"a{i}", 1, 1] for i in range(9)]], "9 feature tensors"),
        ("p2", "Expected `array"),
    ],
)
def test_features_that_make_no_sense_are_refused(features: object, reason: str) -> None:
    assert reason in refusal(assemble(fields(domain="feature", features=features), b"abcdef"))
