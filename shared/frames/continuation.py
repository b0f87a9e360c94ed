"""The continuation header: a frame of a stream, for a receiver that has the one before.

The whole header (:mod:`featlink.shared.frames.wire`) has 200 to 400 bytes, as much as a coded frame of a video. So only
a stream's first frame has it. Those behind it say what changed, in some twenty bytes (little-endian)::

    magic "FN" | header bytes u16 | low u32 of the xxh3-64 of all that follows
    msgpack array: number, image ids skipped, sizes of bitstreams, ranges that changed
    buffer 0 | buffer 1 | ...
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from featlink.shared.errors import FrameError
from featlink.shared.frames import bitstream, wire
from featlink.shared.frames.wire import Buffer, Frame, Limits, Meta, Tensor

_MAGIC = b"FN"
_PREFIX = struct.Struct("<2sHI")
_MOST_HEADER = (1 << 16) - 1


class _Header(msgspec.Struct, array_like=True):
    number: Annotated[int, msgspec.Meta(ge=1)]
    skipped: int  # how far the image's id is from the one after the frame before's
    sizes: list[Annotated[int, msgspec.Meta(ge=0)]]  # of a codec's bitstreams; without one the tensors say it
    ranges: list[bytes | None]  # by tensor, of those that changed; empty where none did


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Header)


@dataclass(frozen=True)
class NextFrame:
    """A frame of a stream behind its first, as it was read.

    Attributes:
        number: its place in the stream; the one with the whole header is 0.
        meta: whole again.
        ranges: of each tensor, in the order of the frame before.
        buffers: a codec's bitstreams, or the tensors' bytes.
        coded: which of the two.
    """

    number: int
    meta: Meta
    ranges: tuple[npt.NDArray[np.float32] | None, ...]
    buffers: tuple[memoryview, ...]
    coded: bool

    def frame(self, before: Frame) -> Frame:
        """The whole frame, of samples that no codec has coded.

        Args:
            before: as it was given to :func:`read_next`.

        Raises:
            FrameError: the buffers are a codec's bitstreams.
        """
        if self.coded:
            raise FrameError("the buffers are a codec's bitstreams, not samples")
        tensors = [
            Tensor(t.name, wire.unpacked(buffer, t.data.dtype.name, t.data.shape, t.bits), t.bits, ranges)
            for t, buffer, ranges in zip(before.tensors, self.buffers, self.ranges, strict=True)
        ]
        return Frame(self.meta, tuple(tensors))


def outline(frame: Frame) -> Frame:
    """A frame's meta and what a stream keeps of its tensors, without memory for their samples, which are all 0."""
    empty = (replace(t, data=np.broadcast_to(t.data.dtype.type(0), t.data.shape)) for t in frame.tensors)
    return Frame(frame.meta, tuple(empty))


def write_next(frame: Frame, before: Frame, number: int, bitstreams: Sequence[bytes] = ()) -> list[Buffer]:
    """Serialise a frame for a receiver that has the one before it in the stream.

    What a stream keeps is left out: domain, model, weights, sizes, condition, key, the tensors' names, shapes and
    depths, and ranges that are as before. An image id one higher than before takes a byte, any other up to nine.

    Args:
        frame: to write.
        before: the frame before it, or its :func:`outline`.
        number: its place in the stream, from 1.
        bitstreams: what crosses in the place of all tensors' bytes; none without a codec.

    Returns:
        Buffers to send one after the other, without padding.

    Raises:
        FrameError: a tensor cannot be sent, or something changed that a stream keeps.
    """
    names = [(t.name, t.data.dtype, t.data.shape, t.bits) for t in frame.tensors]
    if names != [(t.name, t.data.dtype, t.data.shape, t.bits) for t in before.tensors]:
        raise FrameError("the tensors of a stream keep their names, shapes and depths")
    skipped = (frame.meta.image_id or 0) - _following(before.meta)
    if _continued(before.meta, skipped) != frame.meta:
        raise FrameError("the frames of a stream keep model, weights, sizes, condition and key")
    ranges = [
        None if t.ranges is None or np.array_equal(t.ranges, was.ranges) else t.ranges.astype("<f4").tobytes()  # type: ignore[arg-type]
        for t, was in zip(frame.tensors, before.tensors, strict=True)
    ]
    body: list[Buffer] = [*bitstreams] or [wire.payload(tensor) for tensor in frame.tensors]
    header = _encoder.encode(_Header(number, skipped, list(map(len, bitstreams)), ranges if any(ranges) else []))
    if len(header) > _MOST_HEADER:
        raise FrameError(f"a header of {len(header)} bytes; {_MOST_HEADER} are the most")
    return [_PREFIX.pack(_MAGIC, len(header), _low(header, body)) + header, *body]


def read_next(buffer: Buffer, before: Frame, limits: Limits | None = None) -> NextFrame:
    """Read what :func:`write_next` wrote; buffers are views into ``buffer``.

    Args:
        buffer: the whole of it.
        before: the frame before it in the stream, or its :func:`outline`.
        limits: what to accept at most.

    Raises:
        FrameError: with the one reason why it is refused.
    """
    limits = limits or Limits()
    view = memoryview(buffer).cast("B")
    if view.nbytes > limits.frame_bytes:
        raise FrameError(f"frame of {view.nbytes} bytes exceeds the limit of {limits.frame_bytes}")
    if view.nbytes < _PREFIX.size:
        raise FrameError(f"truncated: {view.nbytes} bytes, a frame has at least {_PREFIX.size}")
    magic, header_bytes, checksum = _PREFIX.unpack_from(view)
    if magic != _MAGIC:
        raise FrameError("not a frame that continues a stream: wrong magic")
    at = _PREFIX.size + header_bytes
    if view.nbytes < at:
        raise FrameError(f"truncated: {view.nbytes} bytes, the header ends at {at}")
    raw = view[_PREFIX.size : at]
    if checksum != _low(raw, [view[at:]]):
        raise FrameError("checksum does not match")
    try:
        header = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"header: {error}") from None
    if len(header.sizes) > limits.tensors:
        raise FrameError(f"{len(header.sizes)} bitstreams, allowed are {limits.tensors}")
    sizes = header.sizes or [
        t.data.nbytes if t.bits is None else bitstream.nbytes(t.data.size, t.bits) for t in before.tensors
    ]
    if view.nbytes != at + sum(sizes):
        raise FrameError(f"frame has {view.nbytes} bytes, its header describes {at + sum(sizes)}")
    buffers = []
    for size in sizes:
        buffers.append(view[at : at + size])
        at += size
    changed = header.ranges or [None] * len(before.tensors)
    if len(changed) != len(before.tensors):
        raise FrameError(f"ranges of {len(changed)} tensors, not of {len(before.tensors)}")
    if any(new is not None and t.ranges is None for t, new in zip(before.tensors, changed, strict=True)):
        raise FrameError("ranges of a tensor that has none")
    ranges = [
        t.ranges if new is None else wire.read_ranges(t.name, new, len(t.data))
        for t, new in zip(before.tensors, changed, strict=True)
    ]
    meta = _continued(before.meta, header.skipped)
    return NextFrame(header.number, meta, tuple(ranges), tuple(buffers), bool(header.sizes))


def _following(meta: Meta) -> int:
    return 0 if meta.image_id is None else meta.image_id + 1


def _continued(before: Meta, skipped: int) -> Meta:
    if before.image_id is None and skipped == 0:
        return before
    if not 0 <= (image_id := _following(before) + skipped) < 2**63:
        raise FrameError(f"image id {image_id} is out of range")
    return replace(before, image_id=image_id)


def _low(header: Buffer, body: Sequence[Buffer]) -> int:
    digest = xxhash.xxh3_64(header)
    for part in body:
        digest.update(part)
    return digest.intdigest() & 0xFFFFFFFF
