"""Code pictures for real: encode, keep the bitstream, decode that bitstream."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from featlink.channel.codecs.base import DEFAULT_TOOLS, Codec, SampleCodec, Tools
from featlink.channel.codecs.process import CodecError
from featlink.channel.distortions.base import Planes
from featlink.shared.frames.bitstream import Samples, dtype_for
from featlink.shared.timing import timed

T = TypeVar("T")


@dataclass(frozen=True)
class CodingResult:
    """What coding gave.

    Attributes:
        bitstream: all that the decoder was given.
        decoded: what the decoder made of it, in the shape and dtype of the input.
        encode_ms: wall time of the encoder, its process included.
        decode_ms: wall time of the decoder, its process included.
    """

    bitstream: bytes
    decoded: Samples
    encode_ms: float
    decode_ms: float

    @property
    def bits(self) -> int:
        """Size of the bitstream."""
        return 8 * len(self.bitstream)


@dataclass(frozen=True)
class Coded:
    """What coding several pictures gave.

    Attributes:
        results: one a picture, in the order given.
        encode_ms: wall time until all were encoded, side by side.
        decode_ms: wall time until all were decoded, after that.
    """

    results: list[CodingResult]
    encode_ms: float
    decode_ms: float


def code(picture: Samples, codec: Codec, tools: Tools = DEFAULT_TOOLS) -> CodingResult:
    """Encode one picture and decode its bitstream.

    Args:
        picture: shape (1, H, W), a plane of features of ``codec.plane_depth`` bits; or (3, H, W), uint8 RGB.
        codec: with its parameters.
        tools: programs, time-out and threads. The bitstream does not depend on the threads.

    Raises:
        ValueError: not such a picture.
        CodecError: an encoder or decoder failed, or gave what cannot be.

    Example:
        >>> import numpy as np
        >>> from featlink.channel.codecs.vvenc import Vvenc
        >>> plane = np.tile(np.arange(64, dtype=np.uint8), (1, 64, 1))
        >>> result = code(plane, Vvenc(qp=22))
        >>> result.decoded.shape, result.bits < 8 * plane.size // 10
        ((1, 64, 64), True)
    """
    _check(picture, codec)
    bitstream, encode_ms = _encode(picture, codec, tools)
    decoded, decode_ms = _decode(bitstream, picture, codec, tools)
    return CodingResult(bitstream, decoded, encode_ms, decode_ms)


def code_all(pictures: Sequence[Samples], codec: Codec, tools: Tools = DEFAULT_TOOLS) -> Coded:
    """Code several pictures side by side, each as :func:`code` does: encode all, then decode all.

    The largest starts first, and each gets threads by its share of the samples, so that all cores stay
    busy to the end although p2 has three quarters of a pyramid's samples. Shares are rounded down: two threads of one
    encoder take more processor time than one.

    Args:
        pictures: as for :func:`code`.
        codec: of every picture.
        tools: programs, time-out and cores.

    Returns:
        What became of each, in the order given; the same bitstreams on any number of cores.

    Raises:
        ValueError: a picture is not as :func:`code` wants it.
        CodecError: an encoder or decoder failed; pictures not yet begun are then left out.
    """
    for picture in pictures:
        _check(picture, codec)
    workers = tools.threads or os.cpu_count() or 1
    total = sum(picture.size for picture in pictures)
    largest_first = sorted(range(len(pictures)), key=lambda index: -pictures[index].size)
    shares = [replace(tools, threads=max(1, workers * picture.size // total)) for picture in pictures]

    with ThreadPoolExecutor(workers) as pool:

        def each(job: Callable[[int], T]) -> list[T]:
            jobs = {index: pool.submit(copy_context().run, job, index) for index in largest_first}
            return [jobs[index].result() for index in range(len(pictures))]

        try:
            sent, encode_ms = timed(lambda: each(lambda i: _encode(pictures[i], codec, shares[i])))
            got, decode_ms = timed(lambda: each(lambda i: _decode(sent[i][0], pictures[i], codec, shares[i])))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    results = [CodingResult(a, b, one, other) for (a, one), (b, other) in zip(sent, got, strict=True)]
    return Coded(results, encode_ms, decode_ms)


def _encode(picture: Samples, codec: Codec, tools: Tools) -> tuple[bytes, float]:
    bitstream, ms = timed(lambda: codec.encode(picture, tools))
    if not bitstream:
        raise CodecError(f"the {codec.type} encoder gave no bitstream")
    return bitstream, ms


def _decode(bitstream: bytes, picture: Samples, codec: Codec, tools: Tools) -> tuple[Samples, float]:
    """The decoder gets of the picture nothing but its shape."""
    channels, height, width = picture.shape
    decoded, ms = timed(lambda: codec.decode(bitstream, (channels, height, width), tools))
    if decoded.shape != picture.shape or decoded.dtype != picture.dtype:
        raise CodecError(
            f"the {codec.type} decoder gave {decoded.dtype} {decoded.shape}, not {picture.dtype} {picture.shape}"
        )
    return decoded, ms


def code_samples(planes: Sequence[Planes], codec: SampleCodec, tools: Tools = DEFAULT_TOOLS) -> list[CodingResult]:
    """Code levels side by side, or an image, at the depth they have; the largest starts first.

    Raises:
        CodecError: the codec failed, or is not lossless.
    """

    def one(part: Planes) -> CodingResult:
        bitstream, encode_ms = timed(lambda: codec.encode(part.samples, part.bits))
        channels, height, width = part.samples.shape
        decoded, decode_ms = timed(lambda: codec.decode(bitstream, (channels, height, width), part.bits))
        if not np.array_equal(decoded, part.samples) or decoded.dtype != part.samples.dtype:
            raise CodecError(f"the {codec.type} decoder gave other samples than were encoded")
        return CodingResult(bitstream, decoded, encode_ms, decode_ms)

    with ThreadPoolExecutor(tools.threads or os.cpu_count() or 1) as pool:
        jobs = {
            i: pool.submit(one, planes[i]) for i in sorted(range(len(planes)), key=lambda i: -planes[i].samples.size)
        }
        try:
            return [jobs[i].result() for i in range(len(planes))]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _check(picture: Samples, codec: Codec) -> None:
    bits = codec.plane_depth if len(picture) == 1 else 8
    expected = dtype_for(bits)
    if picture.ndim != 3 or len(picture) not in (1, 3) or picture.size == 0 or picture.dtype != expected:
        raise ValueError(
            f"{codec.type} codes {expected.name} (1, H, W) or uint8 (3, H, W), not {picture.dtype} {picture.shape}"
        )
    if 8 * picture.itemsize > bits and picture.max() >= 1 << bits:
        raise ValueError(f"a sample does not fit into {bits} bits")
