"""Transmit frames: send their tensors through a condition's chain, count the bits that cross, measure fidelity.

A :class:`Stream` is a condition opened for the frames of one sequence, and :func:`transmit` a stream of one frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from featlink.channel.chain import Chain, ChainOutput, floats
from featlink.channel.codecs.base import Codec, Tools
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.packets import PacketReport
from featlink.channel.randomness import Item
from featlink.channel.reduction.base import REDUCED_BY, Reduction
from featlink.shared import fitted
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import ConditionError, FeatlinkError, FrameError
from featlink.shared.features import Array, FeatureSpec
from featlink.shared.frames import bitstream, wire
from featlink.shared.frames.continuation import outline, write_next
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.metrics.fidelity import UNCHANGED, Compare, Fidelity, compare_images, compare_pyramids
from featlink.shared.result import Telemetry
from featlink.shared.timing import timed


@dataclass(frozen=True)
class Transmission:
    """What left the channel.

    Attributes:
        frame: to the cloud. Of a reduction, the restored levels as floats.
        parts: the frame's bytes.
        crossing: what the link carries, unless a codec's bitstreams take its samples' place: the same frame, or of a
            reduction the one with the reduced planes.
        telemetry: the sender's, with the channel's timings, bits and fidelity.
        fidelity: how near the received levels or pixels are to the clean ones; None where it was not measured.
        bitstreams: what a codec made, by picture name.
        extension: of a file with such a bitstream.
        number: its place in the stream, from 0.
        key: whether it can be decoded without the frames before it, by a receiver that has the stream's whole header.
        held: how many frames had been pushed after it when it came out.
        packets: what became of the packets of a codec's units; None where there are none.
    """

    frame: Frame
    parts: list[wire.Buffer]
    crossing: Frame
    telemetry: Telemetry
    fidelity: Fidelity | None
    bitstreams: Mapping[str, bytes]
    extension: str
    number: int = 0
    key: bool = True
    held: int = 0
    packets: PacketReport | None = None


class StreamError(FeatlinkError):
    """A frame for a stream that has ended or failed."""

    status = 409
    title = "Stream has ended"


@dataclass(frozen=True, eq=False)
class _Pushed:
    """A frame on its way through the chain."""

    frame: Frame
    telemetry: Telemetry
    references: Mapping[str, Array] = field(default_factory=dict)
    compare: Compare = compare_pyramids


class Stream:
    """A condition opened for the frames of one sequence, in their order. Use it in a ``with`` statement.

    A codec codes a frame with those before it, if its condition says so, and the first frame crosses with the whole
    header, those behind it with a :mod:`~featlink.shared.frames.continuation` header. After an error the stream has
    ended: a sequence goes on in a new one, which starts with a key frame.

    Args:
        condition: of the frames' domain.
        fidelity: measure it (nothing to measure under identity).
        tools: the codecs' programs; default: those of the environment, or else the bundled ones.
        erasure: what a link that erases packets does to the samples after the chain; the frame's condition does not
            name it, as it belongs to the link.
        erasure_seed: of that; the condition's is for its own steps.
        still: code the only frame as a picture by itself, whatever the condition says of sequences.

    Raises:
        ConditionError: an unknown step, or one that is wrong where it is, as the link's losses may be.
    """

    def __init__(
        self,
        condition: Condition,
        fidelity: bool = True,
        tools: Tools | None = None,
        erasure: PacketLoss | None = None,
        erasure_seed: int = 0,
        still: bool = False,
    ) -> None:
        steps = registry.chain(condition)
        self._seeds = [condition.seed] * len(steps)
        if erasure is not None:
            steps, self._seeds = registry.checked((*steps, erasure)), [*self._seeds, erasure_seed]
        self._steps = [step.for_stills() if still else step for step in steps]
        self._condition, self._fidelity, self._tools = condition, fidelity, tools
        self._chain: Chain | None = None
        self._waiting: deque[_Pushed] = deque()
        self._first: Meta | None = None
        self._before: Frame | None = None
        self._number = 0
        self._spent_ms = 0.0
        self._ended = False

    @property
    def delay(self) -> int:
        """How many frames are held back at most before they come out."""
        return max((step.delay for step in self._steps if isinstance(step, Codec)), default=0)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *given: object) -> None:
        self._ended = True
        if self._chain is not None:
            self._chain.__exit__(*given)

    def push(self, frame: Frame, telemetry: Telemetry, compare: Compare = compare_pyramids) -> list[Transmission]:
        """Send the next frame; those come out whose last bit has arrived, in order.

        Args:
            frame: unquantised: float32 levels, or the uint8 image.
            telemetry: what the sender reported.
            compare: what measures a pyramid's fidelity.

        Returns:
            The distorted frames with what there is to say of them. Under identity their tensors are the given ones.

        Raises:
            ConditionError: the condition is for the other domain, or names a range that is that of no level.
            CodecError: an encoder or decoder failed.
            FrameError: the frame is quantised already, its features are not finite, or of no use to fidelity, or model,
                sizes or tensors are not those of the frames before.
            StreamError: the stream has ended.
        """
        if self._ended:
            raise StreamError("the stream has ended")
        try:
            return self._push(frame, telemetry, compare)
        except BaseException:
            self.__exit__()
            raise

    def close(self) -> list[Transmission]:
        """Give the frames that are left; the stream has ended then.

        Raises:
            CodecError: an encoder or decoder failed.
        """
        if self._ended or self._chain is None:
            return []
        chain = self._chain
        try:
            outputs, whole_ms = timed(chain.close)
            return self._left(outputs, whole_ms)
        finally:
            self.__exit__()

    def _push(self, frame: Frame, telemetry: Telemetry, compare: Compare) -> list[Transmission]:
        meta = frame.meta
        if self._condition.domain != meta.domain:
            raise ConditionError(f"condition is for the {self._condition.domain} domain, the frame for {meta.domain}")
        self._first = self._first or meta
        if replace(meta, image_id=self._first.image_id, key=self._first.key) != self._first:
            raise FrameError("the frames of a stream keep model, weights, sizes and condition")
        reduced = _is_reduced(meta, self._condition)
        if not self._steps:
            self._waiting.append(_Pushed(frame, telemetry))
            return self._left([ChainOutput(_item(meta), {})], 0.0)
        if self._chain is None:
            self._chain = Chain(self._steps, self._condition, self._seeds, meta.weights, self._tools, meta.features)
        chain, references = self._chain, _references(frame, self._condition, reduced)
        # Coders hold many frames: no more is kept of each than is asked of it when it comes out.
        needed = references if self._fidelity else {}
        self._waiting.append(_Pushed(replace(frame, tensors=()), telemetry, needed, compare))
        outputs, whole_ms = timed(lambda: chain.push(_item(meta), references))
        return self._left(outputs, whole_ms)

    def _left(self, outputs: list[ChainOutput], whole_ms: float) -> list[Transmission]:
        """What left the chain, after so long in it."""
        self._spent_ms += whole_ms
        if not outputs:
            return []
        named = sum(sum(output.timings.values()) for output in outputs)
        distort_ms, self._spent_ms = max(0.0, (self._spent_ms - named) / len(outputs)), 0.0
        return [self._transmission(self._waiting.popleft(), output, distort_ms) for output in outputs]

    def _transmission(self, pushed: _Pushed, output: ChainOutput, distort_ms: float) -> Transmission:
        meta, telemetry = replace(pushed.frame.meta, condition=self._condition), pushed.telemetry
        if REDUCED_BY in meta.extensions:  # for the channel, which is a part of the sender
            others = {name: value for name, value in meta.extensions.items() if name != REDUCED_BY}
            meta = replace(meta, extensions=others)
        if not self._steps:
            out = crossing = Frame(meta, pushed.frame.tensors)
            levels = {tensor.name: UNCHANGED for tensor in out.tensors if tensor.name != wire.IMAGE}
            measured: Fidelity | None = replace(UNCHANGED, levels=levels)
        else:
            crossing, out = _frames(meta, output)
            out = replace(out, meta=replace(meta, lost=True)) if output.lost else out
            if output.packets is not None and meta.domain == "feature":  # whose planes go on below the picture
                padded = meta.sizes.padded[0] / meta.sizes.resized[0]
                rows = tuple(
                    (top * padded, min(1.0, end * padded)) for top, end in output.packets.rows if top * padded < 1
                )
                output = replace(output, packets=replace(output.packets, rows=rows))
            measured = None
            if self._fidelity and not pushed.references.keys() & set(wire.REDUCED):  # the clean levels are the edge's
                try:
                    measured, fidelity_ms = timed(
                        lambda: _fidelity(pushed.references, output, pushed.compare, meta.features)
                    )
                except ValueError as error:
                    raise FrameError(str(error)) from None
                telemetry = telemetry.with_timings(fidelity=fidelity_ms)
        parts, write_ms = timed(lambda: wire.write(out))
        timings = {**output.timings, "distort": distort_ms}
        telemetry = telemetry.with_timings(**timings, serialize=write_ms + telemetry.timings.get("serialize", 0))
        bitstreams = {name: picture.data for name, picture in output.coded.items()}
        number, self._number = self._number, self._number + 1
        if self._before is None:
            crossing_bytes = wire.nbytes(parts if crossing is out else wire.write(crossing))
            count = _bytes(crossing, crossing_bytes, bitstreams)
        else:
            # No receiver has a use for the key of each frame, which names random streams.
            crossing = replace(crossing, meta=replace(crossing.meta, key=self._before.meta.key))
            count = wire.nbytes(write_next(crossing, self._before, number, [*bitstreams.values()]))
        self._before = outline(crossing)
        figures = {} if measured is None else measured.figures(meta.domain)
        telemetry = Telemetry(telemetry.timings, 8 * count + output.overhead_bits, figures)
        container = "" if self._chain is None else self._chain.container
        return Transmission(
            out,
            parts,
            crossing,
            telemetry,
            measured,
            bitstreams,
            container,
            number,
            output.key,
            output.held,
            output.packets,
        )


def transmit(
    frame: Frame,
    condition: Condition,
    telemetry: Telemetry,
    fidelity: bool = True,
    tools: Tools | None = None,
    erasure: PacketLoss | None = None,
    erasure_seed: int = 0,
    compare: Compare = compare_pyramids,
) -> Transmission:
    """Send a still, a stream of one frame: see :class:`Stream` and its ``push`` for arguments and errors."""
    with Stream(condition, fidelity, tools, erasure, erasure_seed, still=True) as stream:
        (sent,) = [*stream.push(frame, telemetry, compare), *stream.close()]
    return sent


def _item(meta: Meta) -> Item:
    return meta.key if meta.image_id is None else meta.image_id


def reference(source: Frame, sent: Transmission) -> list[wire.Buffer]:
    """What goes to the cloud behind the counted frame, to measure it with: of a distorted image, the clean one's frame.

    It is no part of what crosses the link.

    Args:
        source: the frame as the channel received it.
        sent: as it left.

    Returns:
        The clean frame's bytes; none for features, and for an image that nothing has touched.
    """
    if sent.frame.meta.domain != "image" or sent.frame.tensor(wire.IMAGE).bits is None:
        return []
    return wire.write(source)


def _frames(meta: Meta, output: ChainOutput) -> tuple[Frame, Frame]:
    """What crosses the link, and what the cloud gets: the same but behind a reduction."""
    crossing = Frame(meta, tuple(Tensor(name, p.samples, p.bits, p.ranges) for name, p in output.planes.items()))
    if output.levels is None:
        return crossing, crossing
    return crossing, Frame(meta, tuple(Tensor(name, level) for name, level in output.levels.items()))


def _bytes(frame: Frame, frame_bytes: int, bitstreams: Mapping[str, bytes]) -> int:
    """What crosses the link but packet headers: the frame, a codec's bitstreams in the place of its samples."""
    if not bitstreams:
        return frame_bytes
    samples = sum(bitstream.nbytes(t.data.size, t.bits or 8) for t in frame.tensors)
    return frame_bytes - samples + sum(map(len, bitstreams.values()))


def _references(frame: Frame, condition: Condition, reduced: bool) -> dict[str, Array]:
    """The clean floats a chain starts from, or what the edge has reduced them to.

    An image's are its pixels at the size the condition is ``at``.
    """
    if frame.meta.domain == "feature":
        spec = frame.meta.features
        for tensor in frame.tensors:
            if reduced and tensor.name in wire.REDUCED and tensor.data.dtype == np.float32 and tensor.bits is None:
                continue
            channels = spec[tensor.name].channels if tensor.name in spec.names else 0
            if tensor.data.dtype != np.float32 or tensor.bits is not None or len(tensor.data) != channels:
                has = f"{tensor.data.dtype.name} in {len(tensor.data)} channels"
                raise FrameError(f"{tensor.name} is {has}, distortions take float32 in {channels}")
        return {tensor.name: tensor.data for tensor in frame.tensors}  # type: ignore[misc]
    pixels = frame.tensor(wire.IMAGE).data
    if pixels.dtype != np.uint8 or pixels.shape != (3, *frame.meta.sizes.original):
        raise FrameError(f"image is {pixels.dtype.name} {pixels.shape}, not uint8 RGB of its original size")
    if condition.at == "original":
        return {wire.IMAGE: pixels.astype(np.float32)}
    return {wire.IMAGE: resized(pixels, frame.meta.sizes.resized)}


def _is_reduced(meta: Meta, condition: Condition) -> bool:
    """Whether the edge has done the condition's reduction already, as an exported one does.

    Raises:
        ConditionError: it did another one, or one fitted otherwise.
    """
    stated = meta.extensions.get(REDUCED_BY)
    if stated is None:
        return False
    step = next(iter(registry.chain(condition)), None)
    wanted = (
        step.sender_half(fitted.key(meta.weights, meta.features)) if isinstance(step, Reduction) else "no reduction"
    )
    if stated != wanted:
        raise ConditionError(f"the edge sends what '{stated}' makes, the condition begins with '{wanted}'")
    return True


def _fidelity(references: Mapping[str, Array], output: ChainOutput, compare: Compare, spec: FeatureSpec) -> Fidelity:
    received = output.levels or {name: floats(planes) for name, planes in output.planes.items()}
    if wire.IMAGE in references:
        return compare_images(references[wire.IMAGE], received[wire.IMAGE])
    whole = spec.complete(received)  # as the cloud does
    return compare(references, {name: whole[name] for name in references})


# The picture at the size of the network's input.

_ROUNDING = 0.02
"""Of a row: more than how far arithmetic in float32 takes a source row from where it is."""


def resized(pixels: npt.NDArray[np.generic], size: tuple[int, int]) -> Array:
    """Resize with torchvision's interpolation: bilinear, half-pixel centres, no antialiasing; not rounded to 8 bits.

    Args:
        pixels: uint8 (3, H, W).
        size: (h, w).

    Returns:
        float32 (3, h, w), in 0..255.
    """
    needed = source_rows(pixels.shape[1], size[0])
    plane = np.empty(pixels.shape[1:], np.float32)  # rows that are not filled take no memory
    out = np.empty((len(pixels), *size), np.float32)
    for channel, target in zip(pixels, out, strict=True):
        plane[needed] = channel[needed]
        cv2.resize(plane, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return out


def source_rows(rows: int, resized: int) -> npt.NDArray[np.int64]:
    """Ascending indices of all rows that resizing ``rows`` of them to ``resized`` may read.

    Example:
        >>> source_rows(12, 3).tolist()
        [1, 2, 5, 6, 9, 10]
    """
    at = (np.arange(resized) + 0.5) * rows / resized - 0.5
    first = np.floor(np.concatenate([at - _ROUNDING, at + _ROUNDING])).astype(np.int64)
    return np.unique(np.clip(np.concatenate([first, first + 1]), 0, rows - 1))
