"""The continuation header: with the frame before, a receiver has all of the next; damage and nonsense are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import xxhash
from frames_by_hand import joined, meta, plain, quantised, same

from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FrameError
from featlink.shared.features import Sizes
from featlink.shared.frames import wire
from featlink.shared.frames.continuation import outline, read_next, write_next
from featlink.shared.frames.wire import Frame, Limits

FIRST = Frame(
    meta(image_id=7, key="k" * 32, condition=Condition(seed=3), extensions={"a": 1}),
    (quantised("p2", 3, (1, 2, 3)), quantised("p3", 12, (2, 1, 3), per=2), plain("p4", "float32")),
)


def later(image_id: int | None = 8, ranges: bool = True) -> Frame:
    """The next frame: other samples, and other ranges of one tensor."""
    p2, p3, p4 = FIRST.tensors
    tensors = (
        replace(p2, data=(p2.data + 1) % 8),
        replace(p3, ranges=p3.ranges * np.float32(0.5)) if ranges and p3.ranges is not None else p3,
        replace(p4, data=p4.data + 1),
    )
    return Frame(replace(FIRST.meta, image_id=image_id), tensors)


def written(frame: Frame, before: Frame, number: int = 1, bitstreams: tuple[bytes, ...] = ()) -> bytes:
    return b"".join(write_next(frame, before, number, bitstreams))


@pytest.mark.parametrize("image_id", [8, 7, 0, 10**12])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_receiver_that_has_the_frame_before_reads_the_next(image_id: int, ranges: bool) -> None:
    before, received = FIRST, wire.read(joined(FIRST))
    for number in (1, 2, 300):
        frame = later(image_id + number, ranges)
        got = read_next(written(frame, before, number), received)
        assert got.number == number
        before, received = frame, got.frame(received)
        same(received, frame)


def test_the_outline_of_the_frame_before_is_enough() -> None:
    assert written(later(), outline(FIRST)) == written(later(), FIRST)
    same(read_next(written(later(), FIRST), outline(FIRST)).frame(outline(FIRST)), later())


def test_a_stream_without_ids_has_none() -> None:
    first, second = (Frame(replace(frame.meta, image_id=None), frame.tensors) for frame in (FIRST, later()))
    assert read_next(written(second, first), first).meta == second.meta


def test_bitstreams_cross_in_the_samples_place() -> None:
    got = read_next(written(later(), FIRST, 5, (b"abc", b"de")), FIRST)
    assert (got.number, got.meta, list(map(bytes, got.buffers))) == (5, later().meta, [b"abc", b"de"])
    np.testing.assert_array_equal(got.ranges[1], later().tensors[1].ranges)
    with pytest.raises(FrameError, match="bitstreams"):
        got.frame(FIRST)


def test_what_does_not_change_takes_few_bytes() -> None:
    assert len(written(later(ranges=False), FIRST, 1, (b"x" * 500,))) - 500 <= 20
    changed = len(written(later(), FIRST, 1, (b"x" * 500,))) - 500
    assert changed <= 20 + 2 + 18 + 2  # two pairs of float32 for p3
    assert changed < len(wire.write(FIRST)[0]) / 5


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, model="other"),
        lambda m: replace(m, sizes=Sizes((1, 1), (1, 1), (32, 32))),
        lambda m: replace(m, key="other"),
        lambda m: replace(m, image_id=None),
        lambda m: replace(m, condition=None),
        lambda m: replace(m, extensions={}),
    ],
)
def test_what_a_stream_keeps_cannot_change(change: Callable[[wire.Meta], wire.Meta]) -> None:
    with pytest.raises(FrameError):
        write_next(Frame(change(later().meta), later().tensors), FIRST, 1)


def test_tensors_keep_their_names_and_shapes() -> None:
    for tensors in (later().tensors[:2], (quantised("p2", 4, (1, 2, 3)), *later().tensors[1:])):
        with pytest.raises(FrameError):
            write_next(Frame(later().meta, tensors), FIRST, 1)


def test_every_flipped_bit_is_noticed() -> None:
    data = written(later(), FIRST)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            read_next(damaged, FIRST)
    for length in range(len(data)):
        with pytest.raises(FrameError):
            read_next(data[:length], FIRST)
    with pytest.raises(FrameError):
        read_next(data + b"\0", FIRST)


def assembled(*header: Any, body: bytes = b"") -> bytes:
    raw = msgspec.msgpack.encode(header)
    checksum = xxhash.xxh3_64_intdigest(raw + body) & 0xFFFFFFFF
    return b"FN" + len(raw).to_bytes(2, "little") + checksum.to_bytes(4, "little") + raw + body


PAIR = np.array([0, 1], "<f4").tobytes()


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ((0, 0, [1], []), b"x"),  # the first frame's number
        ((1, 0, [2], []), b"x"),
        ((1, 0, [], []), b"x"),
        ((1, 0, [-1, 2], []), b"x"),
        ((1, 0, [1 << 62, 1], []), b"x"),
        ((1, -9, [1], []), b"x"),  # an id below 0
        ((1, 1 << 62, [1], [None]), b"x"),
        ((1, 0, [1], [PAIR + PAIR, None, None]), b"x"),
        ((1, 0, [1], [PAIR[4:] + PAIR[:4], None, None]), b"x"),  # 1..0
        ((1, 0, [1], [None, None, PAIR]), b"x"),  # of floats
        ((1, 0, [0] * 9, []), b""),
        ((1, 0, "x"), b""),
    ],
)
def test_nonsense_with_a_right_checksum_is_refused(header: tuple[Any, ...], body: bytes) -> None:
    with pytest.raises(FrameError):
        read_next(assembled(*header, body=body), FIRST)


def test_limits_hold() -> None:
    data = written(later(), FIRST)
    with pytest.raises(FrameError):
        read_next(data, FIRST, Limits(frame_bytes=len(data) - 1))
    read_next(data, FIRST, Limits(frame_bytes=len(data)))
