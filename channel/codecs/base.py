"""The base classes of codecs, coding of pictures by their encoder and decoder, and packing of levels into pictures.

A codec codes a *sequence* of pictures; a still is a sequence of one::

    codec.open_encoder(form, tools)  push(picture) → access units …   close() → the rest
    codec.open_decoder(form, tools)  push(units) → picture …          close() → the rest

Most codecs code each picture by itself and derive from :class:`StillCodec`, which asks for two functions.
:class:`PlaneCoder` runs both ends for all planes of an item, side by side.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from featlink.shared import cancelling
from featlink.shared.conditions.registry import Kind, Step
from featlink.shared.errors import FeatlinkError
from featlink.shared.frames.bitstream import Samples, dtype_for
from featlink.shared.frames.packing import stack, tile, unstack, untile
from featlink.shared.frames.wire import IMAGE, REDUCED
from featlink.shared.timing import timed

Shape = tuple[int, int, int]
"""(C, H, W): C is 1 for a plane of features, 3 for an RGB image, or a level's number of channels."""

Units = tuple[bytes, ...]
"""One coded picture as the parts of it that decode alone, in order; joined, they are its access unit. One that was lost
on the way is empty."""

Rows = npt.NDArray[np.bool_]
"""(H,): which rows of a picture are meant."""

STACKED = "pyramid"
"""Name of the picture that holds all levels."""

T = TypeVar("T")
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class CodecError(FeatlinkError):
    """An encoder or decoder that is missing, fails, takes too long or gives the wrong output."""

    status = 500
    title = "Codec failure"


class ProgramSettings(BaseSettings):
    """``FEATLINK_*`` environment variables that name programs: nothing else reads them."""

    model_config = SettingsConfigDict(env_prefix="FEATLINK_", env_ignore_empty=True, extra="ignore")

    ffmpeg: str | None = Field(None, description="FFmpeg with libvvenc; default: the bundled one")
    vvencapp: str | None = Field(None, description="VVenC's own encoder, used instead of FFmpeg's")
    vvdecapp: str | None = Field(None, description="VVdeC's own decoder, used instead of FFmpeg's")


@dataclass(frozen=True)
class Tools:
    """The programs that code, and how long each may take.

    Programs that are not given are those that the environment names (:class:`ProgramSettings`).

    Attributes:
        timeout_s: seconds after which one encoder or decoder is killed.
        threads: cores to use; 0 for all. A bitstream must not depend on it.
        ffmpeg: path; None for the one bundled with ``imageio-ffmpeg``.
        vvencapp: path; None to let FFmpeg encode VVC.
        vvdecapp: path; None to let FFmpeg decode VVC.
    """

    timeout_s: float = 600.0
    threads: int = 0
    ffmpeg: str | None = field(default_factory=lambda: ProgramSettings().ffmpeg)
    vvencapp: str | None = field(default_factory=lambda: ProgramSettings().vvencapp)
    vvdecapp: str | None = field(default_factory=lambda: ProgramSettings().vvdecapp)


@dataclass(frozen=True)
class Differences:
    """What pictures are of which most are differences to a prediction.

    Attributes:
        head: channels that come first, and say how each place is predicted: a mode, 0 where it stays, and a vector.
        period: pictures from one that is no difference to the next; the first is none.
    """

    head: int
    period: int


@dataclass(frozen=True)
class PictureFormat:
    """What both ends know of every picture of a sequence.

    Attributes:
        shape: (C, H, W).
        bits: per sample, 1..16; to 8 they are uint8, above uint16.
        differences: a codec may use those before as contexts; None: pictures are to be coded by themselves.
    """

    shape: Shape
    bits: int = 8
    differences: Differences | None = None


@dataclass(frozen=True)
class AccessUnit:
    """One coded picture.

    Attributes:
        units: its bytes.
        number: of the picture in the sequence, from 0; None where pictures are coded in their order.
        key: whether it can be decoded without the access units before it.
        parameters: how many of the first units are no part of the picture but what decoders are set up by (parameter
            sets, tables). They are counted, and assumed to arrive: systems send them ahead, until they do.
    """

    units: Units
    number: int | None = None
    key: bool = True
    parameters: int = 0

    @property
    def data(self) -> bytes:
        """Its bytes in one piece."""
        return b"".join(self.units)

    @property
    def bits(self) -> int:
        """Its size."""
        return 8 * sum(map(len, self.units))


@dataclass(frozen=True, eq=False)
class CodedPicture:
    """A picture that went through a codec.

    Attributes:
        coded: as it was sent; the decoder was given all of it but units that were lost.
        decoded: what it made of that, in the shape and dtype of the picture.
        missing: rows that nothing which arrived tells; None where all came.
    """

    coded: AccessUnit
    decoded: Samples
    missing: Rows | None = None

    @property
    def data(self) -> bytes:
        """The access unit's bytes."""
        return self.coded.data

    @property
    def bits(self) -> int:
        """Size of the access unit."""
        return self.coded.bits


@dataclass(frozen=True, eq=False)
class CodedPlanes:
    """All planes of one item, coded.

    Attributes:
        pictures: by name.
        held: how many items had been given after these when they came out.
        encode_ms: wall time that encoding them took, side by side. Where a coder holds items back, those that come
            out together share what has passed since the last did.
        decode_ms: that of decoding them, after that.
    """

    pictures: dict[str, CodedPicture]
    held: int
    encode_ms: float
    decode_ms: float

    @property
    def key(self) -> bool:
        """Whether they can be decoded without the items before."""
        return all(picture.coded.key for picture in self.pictures.values())


class Coder(ABC, Generic[In, Out]):
    """One end of a codec for one sequence: what goes in comes out coded or decoded, in order, some of it later."""

    @abstractmethod
    def push(self, given: In) -> Sequence[Out]:
        """Take the next one in, and give what is ready.

        Raises:
            CodecError: the coder failed.
        """

    def close(self) -> Sequence[Out]:
        """Give what is left; nothing comes after."""
        return ()


class StillCoder(Coder[In, Out]):
    """A coder that gives each picture at once, by a function of it alone."""

    def __init__(self, function: Callable[[In], Out]) -> None:
        self._function = function

    def push(self, given: In) -> Sequence[Out]:
        """See the base class."""
        return (self._function(given),)


class Codec(Step, ABC):
    """A codec's parameters. Subclasses add ``type: Literal[<its name>]`` and their fields, and are registered.

    Attributes:
        container: extension of a file with one of its bitstreams.
        tiles: whether it takes a level as one grey picture of tiles; else its channels as they are.
        lossless: whether the decoder must give exactly what was encoded.
        conceals: whether the decoder goes on with what arrives of pictures that are coded from one another. Others wait
            for the next that is coded alone, as receivers of video conferences do.
    """

    kind: ClassVar[Kind] = "codec"
    changes_bits: ClassVar[bool] = True
    container: ClassVar[str]
    tiles: ClassVar[bool] = True
    lossless: ClassVar[bool] = False
    conceals: ClassVar[bool] = False

    def depth(self, bits: int, image: bool) -> int:
        """Bits per sample of the pictures it takes: 8, unless a subclass says otherwise.

        Args:
            bits: that the samples have.
            image: whether they are an image's.
        """
        del bits, image
        return 8

    @property
    def delay(self) -> int:
        """How many pictures its coders hold back at most."""
        return 0

    @property
    def prediction_period(self) -> int:
        """Pictures from one that is coded alone to the next, during which samples had better keep their meaning."""
        return 1

    @abstractmethod
    def open_encoder(self, form: PictureFormat, tools: Tools) -> Coder[Samples, AccessUnit]:
        """Begin a sequence at the sender: pictures in, access units out, in the order in which they are decoded.

        Args:
            form: of every picture: (1, H, W), a level's tiles; (3, H, W), R, G and B; or a level's channels.
            tools: programs, time-out and threads.
        """

    @abstractmethod
    def open_decoder(self, form: PictureFormat, tools: Tools) -> Coder[Units, Samples]:
        """Begin the same sequence at the receiver: units in, pictures of that shape and depth out."""

    def unit_rows(self, coded: AccessUnit, form: PictureFormat) -> list[tuple[int, int]]:
        """First row of each unit behind the parameters, and the row behind its last.

        All rows, unless a subclass cuts pictures into units that decode alone.

        Args:
            coded: the access unit as it was sent.
            form: of the picture.
        """
        return [(0, form.shape[1])] * (len(coded.units) - coded.parameters)

    def missing_rows(self, received: AccessUnit, form: PictureFormat) -> Rows:
        """Rows of a picture that what arrived of it does not tell; whatever the decoder gives there has no meaning.

        Args:
            received: the access unit; units that were lost are empty.
            form: of the picture.
        """
        missing = np.zeros(form.shape[1], np.bool_)
        for unit, (top, end) in zip(received.units[received.parameters :], self.unit_rows(received, form), strict=True):
            missing[top:end] |= not unit
        return missing


def stripe_edges(height: int, stripes: int) -> list[int]:
    """Where stripes of rows begin and the last one ends; as many as there are rows at most.

    Example:
        >>> stripe_edges(25, 4)
        [0, 6, 12, 19, 25]
    """
    count = min(stripes, height)
    return [round(height * i / count) for i in range(count + 1)]


class StillCodec(Codec):
    """A codec that codes each picture by itself: implement :meth:`encode` and :meth:`decode`."""

    @abstractmethod
    def encode(self, picture: Samples) -> bytes:
        """Code one picture.

        Args:
            picture: shape (1, H, W), a plane of features, or (3, H, W), RGB; uint8.

        Returns:
            All that crosses the link; the shape is known at the other end.

        Raises:
            CodecError: the encoder failed.
        """

    @abstractmethod
    def decode(self, bitstream: bytes, shape: Shape) -> Samples:
        """Decode what :meth:`encode` made of a picture of that shape.

        Raises:
            CodecError: the decoder failed.
        """

    def open_encoder(self, form: PictureFormat, tools: Tools) -> Coder[Samples, AccessUnit]:
        """See the base class."""
        return StillCoder(lambda picture: AccessUnit((self.encode(picture),)))

    def open_decoder(self, form: PictureFormat, tools: Tools) -> Coder[Units, Samples]:
        """See the base class."""
        return StillCoder(lambda units: self.decode(b"".join(units), form.shape))


class PlaneCoder:
    """Both ends of a codec for the planes of a sequence's items, each plane in coders of its own, side by side.

    The largest starts first, and each gets threads by its share of the samples, so that all cores stay busy to the end
    although the finest level has three quarters of a pyramid's samples. Shares are rounded down: two threads of one
    encoder take more processor time than one. Use it in a ``with`` statement, which ends what is still running.

    Args:
        codec: of every plane.
        forms: of the pictures, by name.
        tools: programs, time-out and cores. Bitstreams are the same on any number of cores.
        carry: takes one item's access units over the link; units that it loses are empty. Default: all arrive. A coder
            that holds pictures back can have none.
    """

    def __init__(
        self,
        codec: Codec,
        forms: Mapping[str, PictureFormat],
        tools: Tools | None = None,
        carry: Callable[[Mapping[str, AccessUnit]], Mapping[str, AccessUnit]] | None = None,
    ) -> None:
        tools = tools or Tools()
        workers = tools.threads or os.cpu_count() or 1
        sizes = {name: math.prod(form.shape) for name, form in forms.items()}
        shares = {
            name: replace(tools, threads=max(1, workers * size // max(1, sum(sizes.values()))))
            for name, size in sizes.items()
        }
        self._codec, self._forms, self._carry = codec, forms, carry
        # Of decoders on a lossy link: which cannot go on without a key frame, and which have missed something.
        self._awaits_key = dict.fromkeys(forms, codec.prediction_period > 1)
        self._harmed = dict.fromkeys(forms, False)
        self._largest_first = sorted(forms, key=lambda name: -sizes[name])
        self._encoders = {name: codec.open_encoder(form, shares[name]) for name, form in forms.items()}
        self._decoders = {name: codec.open_decoder(form, shares[name]) for name, form in forms.items()}
        self._given: dict[str, deque[Samples]] = {name: deque() for name in forms}
        self._coded: dict[str, dict[int, AccessUnit]] = {name: {} for name in forms}
        self._encoded = dict.fromkeys(forms, 0)
        self._decoded: dict[str, deque[tuple[Samples, Rows | None]]] = {name: deque() for name in forms}
        self._pool = ThreadPoolExecutor(workers)
        self._token = cancelling.Token()
        self._encode_ms = self._decode_ms = 0.0
        self._pushed = self._finished = 0

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of the pictures, by name."""
        return {name: form.shape for name, form in self._forms.items()}

    def __enter__(self) -> PlaneCoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._token.cancel()  # ends programs that run for a plane when another one has failed
        self._pool.shutdown(wait=False, cancel_futures=True)

    def push(self, pictures: Mapping[str, Samples]) -> list[CodedPlanes]:
        """Code one item's planes; those items come out whose planes are all decoded.

        Args:
            pictures: one for each name.

        Raises:
            ValueError: a picture is not of its format, or none that the codec takes.
            CodecError: a coder failed, or gave what cannot be; planes not yet begun are then left out.
        """
        for name, form in self._forms.items():
            _check(pictures[name], form, self._codec)
            self._given[name].append(pictures[name])
        self._pushed += 1
        return self._advance(
            lambda name: self._encoders[name].push(pictures[name]),
            lambda name, pushed: [out for unit in pushed for out in self._decode(name, unit)],
        )

    def close(self) -> list[CodedPlanes]:
        """Give the items that are left.

        Raises:
            CodecError: as for :meth:`push`, or pictures are missing.
        """
        rest = self._advance(
            lambda name: self._encoders[name].close(),
            lambda name, pushed: [
                *(out for unit in pushed for out in self._decode(name, unit)),
                *((out, None) for out in self._decoders[name].close()),
            ],
        )
        if any(self._given.values()):
            raise CodecError(f"the {self._codec.type} coder kept pictures back")
        return rest

    def _advance(
        self,
        encode: Callable[[str], Sequence[AccessUnit]],
        decode: Callable[[str, Sequence[AccessUnit]], Sequence[tuple[Samples, Rows | None]]],
    ) -> list[CodedPlanes]:
        coded, encode_ms = timed(lambda: self._each(encode))
        if not all(unit.data for pushed in coded.values() for unit in pushed):
            raise CodecError(f"the {self._codec.type} encoder gave no bitstream")
        arrived = self._carried(coded)
        samples, decode_ms = timed(lambda: self._each(lambda name: decode(name, arrived[name])))
        for name in self._forms:
            for unit in coded[name]:
                number = self._encoded[name] if unit.number is None else unit.number
                self._coded[name][number] = unit
                self._encoded[name] += 1
            self._decoded[name].extend(samples[name])
        self._encode_ms += encode_ms
        self._decode_ms += decode_ms
        ready = min(map(len, self._decoded.values()), default=0)
        if not ready:
            return []
        spent, self._encode_ms, self._decode_ms = (self._encode_ms / ready, self._decode_ms / ready), 0.0, 0.0
        return [self._next(*spent) for _ in range(ready)]

    def _carried(self, coded: Mapping[str, Sequence[AccessUnit]]) -> Mapping[str, Sequence[AccessUnit]]:
        if self._carry is None:
            return coded
        items = [dict(zip(coded, units, strict=True)) for units in zip(*coded.values(), strict=True)]
        arrived = [self._carry(item) for item in items]
        return {name: [item[name] for item in arrived] for name in coded}

    def _decode(self, name: str, unit: AccessUnit) -> Sequence[tuple[Samples, Rows | None]]:
        """What a decoder makes of one access unit, and which rows of it are missing."""
        codec, form, decoder = self._codec, self._forms[name], self._decoders[name]
        if self._carry is None:
            return [(out, None) for out in decoder.push(unit.units)]
        missing = codec.missing_rows(unit, form)
        if unit.key and not missing.all():
            self._awaits_key[name] = False
        nothing = (np.zeros(form.shape, dtype_for(form.bits)), np.ones(form.shape[1], np.bool_))
        if self._awaits_key[name] or (missing.all() and not codec.conceals):
            self._awaits_key[name] = codec.prediction_period > 1
            return [nothing]
        self._harmed[name] = self._harmed[name] or not all(unit.units)
        try:
            return [(out, missing if missing.any() else None) for out in decoder.push(unit.units)]
        except CodecError:
            if not self._harmed[name]:
                raise
            return [nothing]  # of what is left, nothing can be made

    def _each(self, job: Callable[[str], T]) -> dict[str, T]:
        def run(name: str) -> T:
            with cancelling.under(self._token):
                return job(name)

        with cancelling.current().stopping(self._token.cancel):
            jobs = {name: self._pool.submit(copy_context().run, run, name) for name in self._largest_first}
            return {name: jobs[name].result() for name in self._forms}

    def _next(self, encode_ms: float, decode_ms: float) -> CodedPlanes:
        pictures = {name: self._picture(name) for name in self._forms}
        self._finished += 1
        return CodedPlanes(pictures, self._pushed - self._finished, encode_ms, decode_ms)

    def _picture(self, name: str) -> CodedPicture:
        given, (decoded, missing) = self._given[name].popleft(), self._decoded[name].popleft()
        if decoded.shape != given.shape or decoded.dtype != given.dtype:
            was = f"{decoded.dtype} {decoded.shape}, not {given.dtype} {given.shape}"
            raise CodecError(f"the {self._codec.type} decoder gave {was}")
        if self._codec.lossless and missing is None and not np.array_equal(decoded, given):
            raise CodecError(f"the {self._codec.type} decoder gave other samples than were encoded")
        unit = self._coded[name].pop(self._finished, None)
        if unit is None:
            raise CodecError(f"the {self._codec.type} decoder gave a picture that was not encoded")
        return CodedPicture(unit, decoded, missing)


def code(picture: Samples, codec: Codec, tools: Tools | None = None) -> CodedPicture:
    """Encode one picture and decode its bitstream.

    Args:
        picture: shape (1, H, W), a plane of features of the codec's depth; or (3, H, W), uint8 RGB.
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
    if picture.ndim != 3:
        raise ValueError(f"{codec.type} codes {_wanted(codec)}, not {picture.dtype} {picture.shape}")
    channels, height, width = picture.shape
    bits = codec.depth(8 * picture.itemsize, image=channels == 3)
    with PlaneCoder(codec, {"": PictureFormat((channels, height, width), bits)}, tools) as coder:
        (coded,) = [*coder.push({"": picture}), *coder.close()]
    return coded.pictures[""]


def decode_still(units: Units, codec: Codec, form: PictureFormat, tools: Tools | None = None) -> Samples:
    """Decode a sequence of one picture, as a receiver that has nothing else.

    Raises:
        CodecError: the decoder failed, or there is not one picture of that shape.
    """
    decoder = codec.open_decoder(form, tools or Tools())
    pictures = [*decoder.push(units), *decoder.close()]
    if len(pictures) != 1:
        raise CodecError(f"the {codec.type} decoder gave {len(pictures)} pictures, not 1")
    if pictures[0].shape != form.shape:
        raise CodecError(f"the {codec.type} decoder gave {pictures[0].shape}, not {form.shape}")
    return pictures[0]


def _check(picture: Samples, form: PictureFormat, codec: Codec) -> None:
    expected = dtype_for(form.bits)
    usual = not codec.tiles or len(picture) in (1, 3)
    if picture.shape != form.shape or not usual or picture.size == 0 or picture.dtype != expected:
        raise ValueError(f"{codec.type} codes {_wanted(codec)}, not {picture.dtype} {picture.shape}")
    if 8 * picture.itemsize > form.bits and picture.max() >= 1 << form.bits:
        raise ValueError(f"a sample does not fit into {form.bits} bits")


def _wanted(codec: Codec) -> str:
    plane = dtype_for(codec.depth(8, image=False)).name
    return f"{plane} (1, H, W) or uint8 (3, H, W)" if codec.tiles else "uint8 or uint16 (C, H, W)"


# Levels as pictures: how a level's channels are laid out for a codec.


def to_pictures(planes: Mapping[str, Samples], codec: Codec, packing: str) -> dict[str, Samples]:
    """Lay samples out as the pictures that a codec takes.

    Args:
        planes: (C, H, W) by tensor name.
        codec: one that takes no tiles gets the planes as they are.
        packing: ``level`` for a picture a level, ``stacked`` for one of all; a reduction's planes are always apart.

    Returns:
        By name: (1, H, W), an image's (3, H, W), or a level's channels.
    """
    if IMAGE in planes or not codec.tiles:
        return dict(planes)
    if _stacked(planes, packing):
        return {STACKED: stack(planes)[None]}
    return {name: tile(samples)[None] for name, samples in planes.items()}


def from_pictures(
    pictures: Mapping[str, Samples], shapes: Mapping[str, tuple[int, ...]], codec: Codec, packing: str
) -> dict[str, Samples]:
    """Undo :func:`to_pictures`.

    Args:
        pictures: by name, as it named them.
        shapes: (C, H, W) by tensor name.
        codec: as given to it.
        packing: as given to it.
    """
    if IMAGE in shapes or not codec.tiles:
        return dict(pictures)
    if _stacked(shapes, packing):
        return unstack(pictures[STACKED][0], shapes)
    return {name: untile(pictures[name][0], shape[0]) for name, shape in shapes.items()}


def picture_formats(formats: Mapping[str, PictureFormat], codec: Codec, packing: str) -> dict[str, PictureFormat]:
    """Formats of the pictures that :func:`to_pictures` gives, from those of the planes, without the samples."""
    empty = {name: np.broadcast_to(np.uint8(0), form.shape) for name, form in formats.items()}
    bits = max(form.bits for form in formats.values())
    return {
        name: replace(formats.get(name, PictureFormat((1, 1, 1), bits)), shape=(p.shape[0], p.shape[1], p.shape[2]))
        for name, p in to_pictures(empty, codec, packing).items()
    }


def _stacked(planes: Mapping[str, object], packing: str) -> bool:
    return packing == "stacked" and not planes.keys() & {*REDUCED}
