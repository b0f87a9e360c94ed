"""Lossless entropy coding of samples, whole or in stripes that decode alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.codecs.base import (
    AccessUnit,
    Codec,
    CodecError,
    Coder,
    Differences,
    PictureFormat,
    Shape,
    StillCoder,
    Tools,
    Units,
    stripe_edges,
)
from featlink.channel.codecs.context_model import code_samples, code_sparse, dense_model, sparse_model
from featlink.channel.codecs.difference_model import DifferenceModel
from featlink.shared.conditions.registry import register
from featlink.shared.frames.bitstream import Samples, dtype_for

Channels = npt.NDArray[np.int64]
_ROWS = 40
"""Rows of a channel that are compared, about."""
_SIZE = 4
"""Bytes that a stripe's size takes."""


@register
class Entropy(Codec):
    """Lossless: code each level's channels, or R, G and B, at the depth they have, in adaptive contexts.

    Samples that mostly have the value in the middle of their range, as the components of a ``pca(step=…)`` do, are
    coded as signed values around it.

    Stripes of rows are coded each with a state of its own, so that they decode alone; those of different levels cover
    the same part of the picture. Each begins with its size.

    Differences to a prediction are coded in contexts of those before, in the same stripe.
    """

    changes_bits: ClassVar[bool] = False
    container: ClassVar[str] = "fel"
    tiles: ClassVar[bool] = False
    lossless: ClassVar[bool] = True

    type: Literal["entropy"] = "entropy"
    stripes: int = Field(
        default=1, ge=1, le=64, description="stripes of rows that decode alone; a level has one a row at most"
    )

    def depth(self, bits: int, image: bool) -> int:
        """Any: samples are coded as they are."""
        return bits

    def open_encoder(self, form: PictureFormat, tools: Tools) -> Coder[Samples, AccessUnit]:
        """See the base class."""
        if form.differences is not None:
            return _DifferenceEncoder(self, form, form.differences)
        return StillCoder(lambda samples: AccessUnit(self.units(samples, lambda _, part: self.encode(part, form.bits))))

    def open_decoder(self, form: PictureFormat, tools: Tools) -> Coder[Units, Samples]:
        """See the base class; samples of a stripe that was lost are 0."""
        if form.differences is not None:
            return _DifferenceDecoder(self, form, form.differences)
        return StillCoder(
            lambda units: self.samples(units, form, lambda _, code, shape: self.decode(code, shape, form.bits))
        )

    def unit_rows(self, coded: AccessUnit, form: PictureFormat) -> list[tuple[int, int]]:
        """See the base class: those of stripes."""
        return [*pairwise(stripe_edges(form.shape[1], self.stripes))]

    def units(self, samples: Samples, encode: Callable[[int, Samples], bytes]) -> Units:
        """A picture's stripes, each coded by the function that is given its number and samples."""
        edges = stripe_edges(samples.shape[1], self.stripes)
        if len(edges) == 2:
            return (encode(0, samples),)
        parts = [encode(number, samples[:, top:end]) for number, (top, end) in enumerate(pairwise(edges))]
        return tuple(len(part).to_bytes(_SIZE, "little") + part for part in parts)

    def samples(self, units: Units, form: PictureFormat, decode: Callable[[int, bytes, Shape], Samples]) -> Samples:
        """Undo :meth:`units`, by a function of a stripe's number, code and shape; those that were lost are 0."""
        edges = stripe_edges(form.shape[1], self.stripes)
        if len(edges) == 2:
            return decode(0, b"".join(units), form.shape)
        samples = np.zeros(form.shape, dtype_for(form.bits))
        whole = _cut(units[0], len(edges) - 1) if len(units) == 1 else units
        for number, (unit, (top, end)) in enumerate(zip(whole, pairwise(edges), strict=True)):
            if unit:
                shape = (form.shape[0], end - top, form.shape[2])
                samples[:, top:end] = decode(number, unit[_SIZE:], shape)
        return samples

    def encode(self, samples: Samples, bits: int) -> bytes:
        """Code one level's channels, or an image.

        Args:
            samples: (C, H, W), uint8 to 8 bits, else uint16.
            bits: their depth, 1..16.

        Returns:
            A byte that tells which contexts follow, and the code.
        """
        if 2 * np.count_nonzero(samples == 1 << (bits - 1)) > samples.size:
            return b"\1" + _encode_sparse(samples, bits)
        return b"\0" + _encode_dense(samples, bits)

    def decode(self, bitstream: bytes, shape: Shape, bits: int) -> Samples:
        """Decode what :meth:`encode` made of samples of that shape; damage behind the head gives other samples.

        Raises:
            CodecError: it cannot be such a bitstream.
        """
        kind, body = bitstream[:1], bitstream[1:]
        if kind not in (b"\0", b"\1"):
            raise CodecError("not a bitstream of the entropy coder")
        return _decode_sparse(body, shape, bits) if kind == b"\1" else _decode_dense(body, shape, bits)


class _DifferenceEnd:
    """What both ends of a stream of differences have: a model for each stripe, and the picture's number."""

    def __init__(self, codec: Entropy, form: PictureFormat, differences: Differences) -> None:
        self._codec, self._form, self._period = codec, form, differences.period
        channels, height, width = form.shape
        edges = stripe_edges(height, codec.stripes)
        self._models = [DifferenceModel(differences.head, (channels, end - top, width)) for top, end in pairwise(edges)]
        self._number = 0

    def _next_is_alone(self) -> bool:
        number, self._number = self._number, self._number + 1
        return number % self._period == 0


class _DifferenceEncoder(_DifferenceEnd, Coder[Samples, AccessUnit]):
    def push(self, given: Samples) -> Sequence[AccessUnit]:
        alone, bits = self._next_is_alone(), self._form.bits

        def encode(number: int, samples: Samples) -> bytes:
            values = _signed(samples, bits)
            if not alone:
                return self._models[number].encode(values)
            self._models[number].begin(values)
            return self._codec.encode(samples, bits)

        return (AccessUnit(self._codec.units(given, encode), key=alone),)


class _DifferenceDecoder(_DifferenceEnd, Coder[Units, Samples]):
    def push(self, given: Units) -> Sequence[Samples]:
        alone, bits = self._next_is_alone(), self._form.bits

        def decode(number: int, code: bytes, shape: Shape) -> Samples:
            if not alone:
                return _unsigned(self._models[number].decode(code), bits)
            samples = self._codec.decode(code, shape, bits)
            self._models[number].begin(_signed(samples, bits))
            return samples

        return (self._codec.samples(given, self._form, decode),)


def _signed(samples: Samples, bits: int) -> npt.NDArray[np.int32]:
    """Samples around the middle of their range."""
    return samples.astype(np.int32) - (1 << (bits - 1))


def _unsigned(values: npt.NDArray[np.int32], bits: int) -> Samples:
    """Undo :func:`_signed`; what damage has made too large is clipped."""
    return (values + (1 << (bits - 1))).clip(0, (1 << bits) - 1).astype(dtype_for(bits))


def _cut(joined: bytes, count: int) -> Units:
    """The stripes of an access unit in one piece."""
    units, at = [], 0
    for _ in range(count):
        end = at + _SIZE + int.from_bytes(joined[at : at + _SIZE], "little")
        units.append(joined[at:end])
        at = end
    if at != len(joined) or not all(units):
        raise CodecError(f"{len(joined)} bytes are not {count} stripes")
    return tuple(units)


def _encode_sparse(samples: Samples, bits: int) -> bytes:
    """How many channels come before the last that are all zero, then their code."""
    values = _signed(samples, bits)
    filled = np.flatnonzero(values.any((1, 2)))
    count = int(filled[-1]) + 1 if filled.size else 0
    values = values[:count]
    data = np.empty(values.size * bits // 4 + 1024, np.uint8)
    size = int(code_sparse(sparse_model(count, data, decoding=False), values))
    if size > data.size:
        data = np.empty(size, np.uint8)
        code_sparse(sparse_model(count, data, decoding=False), values)
    return np.array(count, "<u2").tobytes() + data[:size].tobytes()


def _decode_sparse(body: bytes, shape: Shape, bits: int) -> Samples:
    channels, height, width = shape
    if len(body) < 2:
        raise CodecError(f"{len(body)} bytes are too few for {channels} channels")
    count = int(np.frombuffer(body, "<u2", 1)[0])
    if count > channels:
        raise CodecError(f"a code of {count} channels, not of {channels} at most")
    values = np.zeros((count, height, width), np.int32)
    data = np.frombuffer(body, np.uint8, offset=2).copy()
    code_sparse(sparse_model(count, data, decoding=True), values)
    samples = np.full(shape, 1 << (bits - 1), dtype_for(bits))
    samples[:count] = _unsigned(values, bits)
    return samples


def _encode_dense(samples: Samples, bits: int) -> bytes:
    """Which channels are alike, then the code."""
    alike = similar_channels(samples)
    data = np.empty(samples.size * bits // 4 + 1024, np.uint8)
    size = _code(_with_zeros(samples), bits, alike, data, decoding=False)
    if size > data.size:  # noise, or samples made to defeat the contexts
        data = np.empty(size, np.uint8)
        _code(_with_zeros(samples), bits, alike, data, decoding=False)
    return (alike + 1).astype(_index_dtype(len(samples))).tobytes() + data[:size].tobytes()


def _decode_dense(body: bytes, shape: Shape, bits: int) -> Samples:
    channels, height, width = shape
    index = _index_dtype(channels)
    head = 2 * channels * index.itemsize
    if len(body) < head:
        raise CodecError(f"{len(body)} bytes are too few for {channels} channels")
    alike = np.frombuffer(body, index, 2 * channels).astype(np.int64).reshape(2, channels) - 1
    if (alike >= np.arange(channels)).any():
        raise CodecError("a channel refers to one behind it")
    samples = np.zeros((channels + 1, height, width), np.uint16)
    # a copy, which can be written to: the kernel has one type of data too
    _code(samples, bits, alike, np.frombuffer(body, np.uint8, offset=head).copy(), decoding=True)
    return samples[:-1].astype(dtype_for(bits))


def similar_channels(samples: Samples) -> Channels:
    """For each channel, the two before it whose texture correlates most with its own; -1 where there is none.

    Sums of products of integers are exact in float64, so any order of adding them, and any machine, finds the same.

    Args:
        samples: (C, H, W).

    Returns:
        int64 (2, C).

    Example:
        >>> ramp = np.arange(6, dtype=np.uint8)
        >>> similar_channels(np.stack([ramp, ramp * ramp % 7, ramp * 2])[:, None]).tolist()
        [[-1, 0, 0], [-1, -1, 1]]
    """
    rows = samples[:, :: max(1, samples.shape[1] // _ROWS)].astype(np.float64)
    slopes = np.diff(rows, axis=2).reshape(len(samples), -1)
    products = slopes @ slopes.T
    energy = np.maximum(np.diag(products), 1)
    likeness = products * products / energy[:, None] / energy
    nearest = np.full((2, len(samples)), -1, np.int64)
    for c in range(1, len(samples)):
        best = np.argsort(-likeness[c, :c], kind="stable")[:2]
        nearest[: len(best), c] = best
    return nearest


def _code(x: Samples, bits: int, alike: Channels, data: npt.NDArray[np.uint8], decoding: bool) -> int:
    channels, height, width = len(x) - 1, x.shape[1], x.shape[2]
    errors = np.zeros((channels + 1, height + 2, width + 2), np.int32)
    return int(code_samples(dense_model(channels, data, decoding), x, bits, alike, errors))


def _with_zeros(samples: Samples) -> Samples:
    """The kernel has one type of samples, so as to be compiled once, and wants a channel of zeros behind all."""
    return np.concatenate([samples, np.zeros_like(samples[:1])]).astype(np.uint16)


def _index_dtype(channels: int) -> np.dtype[np.generic]:
    """Of a channel's number plus 1."""
    return np.dtype("<u1" if channels <= 256 else "<u2")
