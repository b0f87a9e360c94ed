"""The frame: one image's tensors and what the receiver must know, as bytes.

Layout (all little-endian)::

    magic "FEATLINK" | version u16 | checksums u16 | header bytes u32 | header's checksum u64
    msgpack header   | zero padding to 64
    buffer 0         | zero padding to 64 | buffer 1 | ...

Buffers stand in the header's order; their sizes follow from shape, dtype and bits, so nothing in
the header can contradict the byte count. Checksums are XXH3-64 (0), or CRC-32 (1) of a sender that has nothing better,
such as a device without the library; readers take both. Every byte of a frame is covered by a comparison or a
checksum. A tensor quantised to t bits is stored as a dense t-bit stream (:mod:`featlink.shared.frames.bitstream`):
the length of a frame *is* the bits that cross the link.

In a stream only the first frame has this header, and those behind it a short one
(:mod:`featlink.shared.frames.continuation`).

A frame is a pure function of image, model and condition: timings and the run it is for travel beside
it (:mod:`featlink.shared.result`), because a real link would not carry them and bits must not depend on them.

Reading copies no buffer, and checks every limit before it allocates anything.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from featlink.shared.conditions.language import Condition, Domain, from_fields
from featlink.shared.errors import FrameError, ModelError
from featlink.shared.features import FeatureSpec, Sizes, TensorSpec
from featlink.shared.fpn import FPN
from featlink.shared.frames import bitstream

Buffer = bytes | bytearray | memoryview

MEDIA_TYPE = "application/vnd.featlink.frame"
MAGIC = b"FEATLINK"
VERSION = 1
ALIGN = 64
_PREFIX = struct.Struct("<8sHHIQ")
PREFIX_BYTES = _PREFIX.size
_MAX_SIDE = 65535
_CHECKSUMS: tuple[Callable[[Buffer], int], ...] = (xxhash.xxh3_64_intdigest, zlib.crc32)
"""By their number in the prefix; frames are written with the first."""

_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("float32", "float16", "uint8", "uint16")}
IMAGE = "image"
LATENT = "latent"
"""What a reduction sends in the levels' place."""

REDUCED = (LATENT,)
"""Names of the planes that reductions make."""


@dataclass(frozen=True)
class Limits:
    """What a reader accepts at most; the largest torchvision pyramid (1333×1333) is 152 MB."""

    frame_bytes: int = 256 << 20
    header_bytes: int = 64 << 10
    tensors: int = 8


@dataclass(frozen=True)
class Tensor:
    """One named array of a frame.

    Attributes:
        name: of the features' spec, ``latent`` or ``image``.
        data: shape (C, H, W); float32, float16, uint8 or uint16.
        bits: for quantised samples, the bit depth t in 1..16 (uint8 to 8, uint16 above); else None.
        ranges: for quantised samples, float32 array (1, 2) or (C, 2) of (m, M): the values that
            sample 0 and sample 2**t - 1 stand for; else None.
    """

    name: str
    data: npt.NDArray[np.generic]
    bits: int | None = None
    ranges: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Meta:
    """What travels beside the tensors.

    Attributes:
        domain: ``feature`` or ``image``.
        model: architecture the features belong to.
        weights: identity of the weights, so that a foreign head is refused.
        sizes: image sizes.
        image_id: the image's id in its data set, if it has one.
        key: content hash of the image: names the noise stream where there is no ``image_id``.
        condition: that the frame is for, or went through; None leaves it to the channel.
        extensions: further fields; readers ignore what they do not know.
        features: what the model's features are.
        lost: nothing of the image came over the link: the tensors mean nothing, and there is nothing to be found.
    """

    domain: Domain
    model: str
    weights: str
    sizes: Sizes
    image_id: int | None = None
    key: str = ""
    condition: Condition | None = None
    extensions: dict[str, object] = field(default_factory=dict)
    features: FeatureSpec = FPN
    lost: bool = False


@dataclass(frozen=True)
class Frame:
    """A frame in memory: ``meta`` and its tensors."""

    meta: Meta
    tensors: tuple[Tensor, ...]

    def tensor(self, name: str) -> Tensor:
        """The tensor called ``name``.

        Raises:
            FrameError: there is none.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise FrameError(f"frame has no tensor {name!r}")


_Word = Annotated[str, msgspec.Meta(max_length=16)]  # so that an error can quote it
_Side = Annotated[int, msgspec.Meta(ge=1, le=_MAX_SIDE)]


class _TensorInfo(msgspec.Struct, array_like=True):
    name: _Word
    dtype: _Word
    shape: tuple[int, int, int]
    checksum: int
    bits: int | None = None
    ranges: bytes | None = None


class _TensorSpecInfo(msgspec.Struct, array_like=True):
    name: _Word
    channels: _Side
    stride: _Side
    source: _Word | None = None


class _FeatureSpecInfo(msgspec.Struct, array_like=True):
    divisor: _Side
    tensors: list[_TensorSpecInfo]


class _Header(msgspec.Struct, omit_defaults=True):
    domain: _Word
    model: str
    weights: str
    original: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]
    tensors: list[_TensorInfo]
    image_id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    key: str = ""
    condition: dict[str, object] | None = None
    extensions: dict[str, object] = {}
    features: _FeatureSpecInfo | None = None  # written where they are no feature pyramid's
    lost: bool = False


_decoder = msgspec.msgpack.Decoder(_Header)
_encoder = msgspec.msgpack.Encoder()


def write(frame: Frame) -> list[Buffer]:
    """Serialise a frame.

    Args:
        frame: its tensors must be C-contiguous to be written without a copy.

    Returns:
        Buffers to send one after the other; float, 8- and 16-bit data is referenced, not copied.

    Raises:
        FrameError: a tensor has an unsupported dtype, shape, or bit depth.
    """
    infos: list[_TensorInfo] = []
    body: list[Buffer] = []
    for tensor in frame.tensors:
        data = payload(tensor)
        infos.append(
            _TensorInfo(
                tensor.name,
                tensor.data.dtype.name,
                tensor.data.shape,  # three dimensions: payload() checked
                xxhash.xxh3_64_intdigest(data),
                tensor.bits,
                None if tensor.ranges is None else tensor.ranges.astype("<f4").tobytes(),
            )
        )
        body.append(data)
        if pad := -data.nbytes % ALIGN:
            body.append(bytes(pad))
    meta = frame.meta
    header = _encoder.encode(
        _Header(
            domain=meta.domain,
            model=meta.model,
            weights=meta.weights,
            original=meta.sizes.original,
            resized=meta.sizes.resized,
            padded=meta.sizes.padded,
            tensors=infos,
            image_id=meta.image_id,
            key=meta.key,
            condition=None if meta.condition is None else meta.condition.model_dump(mode="json", exclude_defaults=True),
            extensions=meta.extensions,
            features=None if meta.features == FPN else _spec_info(meta.features),
            lost=meta.lost,
        )
    )
    prefix = _PREFIX.pack(MAGIC, VERSION, 0, len(header), xxhash.xxh3_64_intdigest(header))
    head = prefix + header
    return [head + bytes(-len(head) % ALIGN), *body]


def nbytes(parts: Sequence[Buffer]) -> int:
    """Length in bytes of a written frame: eight times this is what crosses the link."""
    return sum(memoryview(part).nbytes for part in parts)


def check_prefix(prefix: Buffer, limits: Limits) -> int:
    """Check the first 24 bytes of a frame, so that garbage is refused before the rest is read.

    Returns:
        The header's length in bytes.

    Raises:
        FrameError: not a frame, another version, or a header beyond the limit.
    """
    if len(prefix) < PREFIX_BYTES:
        raise FrameError(f"truncated: {len(prefix)} bytes, a frame has at least {PREFIX_BYTES}")
    magic, version, checksums, header_bytes, _ = _PREFIX.unpack_from(prefix)
    if magic != MAGIC:
        raise FrameError("not a Featlink frame: wrong magic")
    if version != VERSION:
        raise FrameError(f"frame version {version}, this reader knows {VERSION}")
    if checksums >= len(_CHECKSUMS):
        raise FrameError(f"checksums of kind {checksums}, this reader knows 0 to {len(_CHECKSUMS) - 1}")
    if header_bytes > limits.header_bytes:
        raise FrameError(f"header of {header_bytes} bytes exceeds the limit of {limits.header_bytes}")
    return int(header_bytes)


def read(buffer: Buffer, limits: Limits | None = None) -> Frame:
    """Read one frame; its float, 8- and 16-bit tensors are views into ``buffer``.

    Args:
        buffer: the whole frame.
        limits: what to accept at most.

    Raises:
        FrameError: with the one reason why the frame is refused.
        ConditionError: its condition does not parse.
    """
    limits = limits or Limits()
    view = memoryview(buffer).cast("B")
    frame, length = _read_first(view, limits)
    if view.nbytes > length:
        raise FrameError(f"frame has {view.nbytes} bytes, its header describes {length}")
    return frame


def read_with_reference(buffer: Buffer, limits: Limits | None = None) -> tuple[Frame, Frame | None, int]:
    """Read a frame and, where one stands behind it, the clean one that it is measured against.

    The second one is no part of what crosses the link, and not counted.

    Args:
        buffer: both.
        limits: what to accept at most, of both together.

    Returns:
        The frame, the clean one or None, and how many bytes the first one has.

    Raises:
        FrameError: with the one reason why a frame is refused.
        ConditionError: a condition does not parse.
    """
    limits = limits or Limits()
    view = memoryview(buffer).cast("B")
    frame, length = _read_first(view, limits)
    return frame, read(view[length:], limits) if view.nbytes > length else None, length


def _read_first(view: memoryview, limits: Limits) -> tuple[Frame, int]:
    """The frame that some bytes begin with, and its length."""
    if view.nbytes > limits.frame_bytes:
        raise FrameError(f"frame of {view.nbytes} bytes exceeds the limit of {limits.frame_bytes}")
    header, end, checksum = _header(view, limits)
    spec = _spec(header, limits)
    _check_tensors(header, spec)
    length = _length(header, end, limits)
    if view.nbytes < length:
        raise FrameError(f"frame has {view.nbytes} bytes, its header describes {length}")
    return Frame(_meta(header, spec), _tensors(header, view[:length], end, checksum)), length


def _header(view: memoryview, limits: Limits) -> tuple[_Header, int, Callable[[Buffer], int]]:
    """A frame's header, where it ends, and what makes the frame's checksums."""
    end = PREFIX_BYTES + check_prefix(view[:PREFIX_BYTES], limits)
    if view.nbytes < end:
        raise FrameError(f"truncated: {view.nbytes} bytes, the header ends at {end}")
    raw = view[PREFIX_BYTES:end]
    _, _, kind, _, wanted = _PREFIX.unpack_from(view)
    checksum = _CHECKSUMS[kind]
    if checksum(raw) != wanted:
        raise FrameError("header checksum does not match")
    return _decode_header(raw, limits), end, checksum


def _length(header: _Header, end: int, limits: Limits) -> int:
    """Bytes of the whole frame."""
    decoded = 0
    for info in header.tensors:
        end = _align(end) + _payload_bytes(info)
        decoded += math.prod(info.shape) * _DTYPES[info.dtype].itemsize
    if max(end, decoded) > limits.frame_bytes:  # a 1-bit stream unpacks to eight times its size
        raise FrameError(f"header describes more than the limit of {limits.frame_bytes} bytes")
    return _align(end)


def _tensors(header: _Header, view: memoryview, end: int, checksum: Callable[[Buffer], int]) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    for info in header.tensors:
        start = _align(end)
        stop = start + _payload_bytes(info)
        _check_padding(view[end:start])
        data = view[start:stop]
        if checksum(data) != info.checksum:
            raise FrameError(f"{info.name}: checksum does not match")
        tensors.append(_tensor(info, data))
        end = stop
    _check_padding(view[end:])
    return tuple(tensors)


def _align(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


def _check_padding(padding: memoryview) -> None:
    if any(padding):
        raise FrameError("padding between buffers is not zero")


def _decode_header(raw: memoryview, limits: Limits) -> _Header:
    try:
        header = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"header: {error}") from None
    if header.domain not in ("feature", "image"):
        raise FrameError(f"unknown domain {header.domain!r}")
    for size in (header.original, header.resized, header.padded):
        if not all(1 <= side <= _MAX_SIDE for side in size):
            raise FrameError(f"image size {size} is outside 1..{_MAX_SIDE}")
        if 3 * math.prod(size) > limits.frame_bytes:  # a reader makes arrays of these sizes
            raise FrameError(f"an image of {size} pixels exceeds the limit of {limits.frame_bytes} bytes")
    if not 1 <= len(header.tensors) <= limits.tensors:
        raise FrameError(f"{len(header.tensors)} tensors, allowed are 1..{limits.tensors}")
    return header


def _check_tensors(header: _Header, spec: FeatureSpec) -> None:
    known = [IMAGE] if header.domain == "image" else [*spec.names, *REDUCED]
    for info in header.tensors:
        if info.name not in known:
            raise FrameError(f"the {header.domain} domain has no tensor {info.name!r}")
        _check_tensor(info)
    names = [info.name for info in header.tensors]
    if len(set(names)) != len(names):
        raise FrameError("a tensor name occurs twice")


def _check_tensor(info: _TensorInfo) -> None:
    if info.dtype not in _DTYPES:
        raise FrameError(f"{info.name}: unknown dtype {info.dtype!r}")
    if not all(1 <= side <= _MAX_SIDE for side in info.shape):
        raise FrameError(f"{info.name}: shape {info.shape} is outside 1..{_MAX_SIDE}")
    if info.bits is None and info.ranges is None:
        return
    if info.bits is None or info.ranges is None:
        raise FrameError(f"{info.name}: bits and ranges come together")
    if info.dtype != bitstream.dtype_for(info.bits).name:
        raise FrameError(f"{info.name}: {info.bits} bits do not go with {info.dtype}")
    read_ranges(info.name, info.ranges, info.shape[0])


def read_ranges(name: str, raw: bytes, channels: int) -> npt.NDArray[np.float32]:
    """The pairs (m, M) of a tensor of so many channels.

    Raises:
        FrameError: they are not finite or not ordered, or there are too few or too many.
    """
    if len(raw) not in (8, 8 * channels):
        raise FrameError(f"{name}: {len(raw)} bytes of ranges")
    ranges = np.frombuffer(raw, "<f4").reshape(-1, 2)
    if not np.isfinite(ranges).all() or (ranges[:, 0] > ranges[:, 1]).any():
        raise FrameError(f"{name}: ranges are not finite or not ordered")
    return ranges


def _payload_bytes(info: _TensorInfo) -> int:
    count = math.prod(info.shape)
    return count * _DTYPES[info.dtype].itemsize if info.bits is None else bitstream.nbytes(count, info.bits)


def payload(tensor: Tensor) -> memoryview:
    """A tensor's bytes as they cross the link; a view where no packing is needed.

    Raises:
        FrameError: it cannot be sent.
    """
    data = tensor.data
    if data.ndim != 3 or data.dtype.name not in _DTYPES:
        raise FrameError(f"{tensor.name}: cannot send {data.dtype.name} of shape {data.shape}")
    if (tensor.bits is None) != (tensor.ranges is None):
        raise FrameError(f"{tensor.name}: bits and ranges come together")
    data = np.ascontiguousarray(data, _DTYPES[data.dtype.name])
    if tensor.bits is not None:
        data = bitstream.pack(data.reshape(-1), tensor.bits)  # type: ignore[arg-type]  # write() checks the dtype
    return data.reshape(-1).view(np.uint8).data


def _tensor(info: _TensorInfo, data: memoryview) -> Tensor:
    ranges = None if info.ranges is None else np.frombuffer(info.ranges, "<f4").reshape(-1, 2)
    return Tensor(info.name, unpacked(data, info.dtype, info.shape, info.bits), info.bits, ranges)


def unpacked(data: memoryview, dtype: str, shape: tuple[int, ...], bits: int | None) -> npt.NDArray[np.generic]:
    """Undo :func:`payload`."""
    if bits is None:
        return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
    return bitstream.unpack(np.frombuffer(data, np.uint8), bits, math.prod(shape)).reshape(shape)


def _meta(header: _Header, spec: FeatureSpec) -> Meta:
    return Meta(
        domain="image" if header.domain == "image" else "feature",
        model=header.model,
        weights=header.weights,
        sizes=Sizes(header.original, header.resized, header.padded),
        image_id=header.image_id,
        key=header.key,
        condition=_condition(header),
        extensions=header.extensions,
        features=spec,
        lost=header.lost,
    )


def _condition(header: _Header) -> Condition | None:
    return None if header.condition is None else from_fields({"domain": header.domain, **header.condition})


def _spec(header: _Header, limits: Limits) -> FeatureSpec:
    info = header.features
    if info is None:
        return FPN
    if len(info.tensors) > limits.tensors:
        raise FrameError(f"{len(info.tensors)} feature tensors, allowed are 1..{limits.tensors}")
    try:
        spec = FeatureSpec(
            tuple(TensorSpec(t.name, t.channels, t.stride, t.source) for t in info.tensors), info.divisor
        )
    except ModelError as error:
        raise FrameError(str(error)) from None
    if reserved := {IMAGE, *REDUCED}.intersection(spec.names):
        raise FrameError(f"features: {min(reserved)!r} is no name of a tensor")
    return spec


def _spec_info(spec: FeatureSpec) -> _FeatureSpecInfo:
    return _FeatureSpecInfo(
        spec.divisor, [_TensorSpecInfo(t.name, t.channels, t.stride, t.source) for t in spec.tensors]
    )
