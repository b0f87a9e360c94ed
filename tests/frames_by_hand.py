"""Frames, and bytes that look like frames, made without the code under test."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np
import pytest
import xxhash

from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FrameError
from featlink.shared.features import Sizes
from featlink.shared.frames import wire
from featlink.shared.frames.bitstream import dtype_for
from featlink.shared.frames.wire import Frame, Limits, Meta, Tensor

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
    checksum: object = xxhash.xxh3_64_intdigest(b"abcdef"),
    *more: object,
) -> list[object]:
    return [name, dtype, shape, checksum, *more]


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


SMALL = {
    "float": Frame(meta(), (plain("p2", "float32", (2, 2, 2)),)),
    "bits": Frame(meta(image_id=7, key="k"), (quantised("p2", 3, (1, 1, 3)), quantised("p3", 12, (2, 1, 3), per=2))),
    "image": Frame(
        meta("image", condition=Condition(domain="image", seed=1), extensions={"a": 1}),
        (plain("image", "uint8", (3, 1, 2)),),
    ),
}
