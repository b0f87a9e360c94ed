"""Our frames' headers and msgpack's reference implementation: each reads what the other writes."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from frames_by_hand import PREFIX, SMALL, assemble, fields, joined, meta, quantised, same

from featlink.shared.conditions.language import parse
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame

FRAMES = {
    **SMALL,
    "a range a channel": Frame(meta("feature", image_id=2**63 - 1, key="é"), (quantised("p5", 11, per=3),)),
    "all kinds of values": Frame(
        meta(
            condition=parse("quantize:bits=4 @ seed=4294967295"),
            extensions={"none": None, "yes": True, "half": 0.5, "list": [-1, -(2**63), 2**64 - 1, "x" * 300]},
        ),
        (quantised("p2", 4), quantised("p3", 16, (1, 2, 3))),
    ),
}


def header(data: bytes) -> bytes:
    return data[PREFIX.size : PREFIX.size + PREFIX.unpack_from(data)[3]]


def payloads(data: bytes) -> bytes:
    start = PREFIX.size + len(header(data))
    return data[-(-start // 64) * 64 :]


def unpacked(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgpack.unpackb(header(data), strict_map_key=True)
    return found


@pytest.mark.parametrize("name", FRAMES)
def test_msgpack_reads_our_header(name: str) -> None:
    frame = FRAMES[name]
    found = unpacked(joined(frame))
    sent = frame.meta
    assert (found["domain"], found["model"], found["weights"]) == (sent.domain, sent.model, sent.weights)
    for size in ("original", "resized", "padded"):
        assert tuple(found[size]) == getattr(sent.sizes, size)
    assert found.get("image_id") == sent.image_id
    assert found.get("key", "") == sent.key
    assert found.get("condition") == (sent.condition and sent.condition.model_dump(mode="json", exclude_defaults=True))
    assert found.get("extensions", {}) == sent.extensions
    for (kind, dtype, shape, checksum, *rest), tensor in zip(found["tensors"], frame.tensors, strict=True):
        assert (kind, dtype, tuple(shape)) == (tensor.name, tensor.data.dtype.name, tensor.data.shape)
        assert 0 <= checksum < 2**64
        bits, ranges = [*rest, None, None][:2]
        assert bits == tensor.bits
        if tensor.ranges is not None:
            assert isinstance(ranges, bytes), "binary, not text"
            np.testing.assert_array_equal(np.frombuffer(ranges, "<f4").reshape(-1, 2), tensor.ranges)


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("options", [{}, {"use_single_float": True}], ids=["doubles", "singles"])
def test_we_read_a_header_that_msgpack_wrote(name: str, options: dict[str, bool]) -> None:
    data = joined(FRAMES[name])
    by_msgpack = msgpack.packb(unpacked(data), **options)
    same(wire.read(assemble(by_msgpack, payloads(data))), FRAMES[name])


def test_we_read_a_header_in_msgpacks_order_and_with_fields_of_others() -> None:
    ours = fields(image_id=3, later={"a": [1, None]})
    by_msgpack = msgpack.packb(dict(reversed(ours.items())))
    frame = wire.read(assemble(by_msgpack, b"abcdef"))
    assert frame.meta.image_id == 3
    assert frame.tensor("image").data.tobytes() == b"abcdef"


def test_we_write_the_bytes_that_msgpack_does() -> None:
    """A tuple is a list there, and the order is ours: so both have one form, the shortest."""
    for frame in FRAMES.values():
        data = joined(frame)
        assert msgpack.packb(unpacked(data)) == header(data)
