"""Transmit a frame: send its tensors through a condition's chain, count the bits that cross, measure fidelity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from featlink.channel.chain import Chain, ChainOutput, floats
from featlink.channel.codecs.base import Tools
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.randomness import Item
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import ConditionError, FrameError
from featlink.shared.features import Array, FeatureSpec
from featlink.shared.frames import bitstream, wire
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
    """

    frame: Frame
    parts: list[wire.Buffer]
    crossing: Frame
    telemetry: Telemetry
    fidelity: Fidelity | None
    bitstreams: Mapping[str, bytes]
    extension: str


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
    """Send a frame through a condition.

    Args:
        frame: unquantised: float32 levels, or the uint8 image.
        condition: of the frame's domain.
        telemetry: what the sender reported.
        fidelity: measure it (nothing to measure under identity).
        tools: the codecs' programs; default: those of the environment, or else the bundled ones.
        erasure: what a link that erases packets does to the samples after the chain; the frame's condition does not
            name it, as it belongs to the link.
        erasure_seed: of that; the condition's is for its own steps.
        compare: what measures a pyramid's fidelity.

    Returns:
        The distorted frame with what there is to say of it. Under identity its tensors are the given ones.

    Raises:
        ConditionError: unknown step, or of the other domain, or a codec on a link that erases packets, or a range that
            is that of no level.
        CodecError: an encoder or decoder failed.
        FrameError: the frame is quantised already, or its features are not finite, or of no use to fidelity.
    """
    if condition.domain != frame.meta.domain:
        raise ConditionError(f"condition is for the {condition.domain} domain, the frame for {frame.meta.domain}")
    steps = registry.chain(condition)
    seeds = [condition.seed] * len(steps)
    if erasure is not None:
        steps, seeds = registry.checked((*steps, erasure)), [*seeds, erasure_seed]
    meta = replace(frame.meta, condition=condition)
    timings = {"distort": 0.0}
    container = ""
    if not steps:
        out = crossing = Frame(meta, frame.tensors)
        levels = {tensor.name: UNCHANGED for tensor in frame.tensors if tensor.name != wire.IMAGE}
        measured: Fidelity | None = replace(UNCHANGED, levels=levels)
        output = ChainOutput(_item(meta), {})
    else:
        references = _references(frame, condition)
        with Chain(steps, condition, seeds, meta.weights, tools, meta.features) as chain:
            output, whole_ms = timed(lambda: _still(chain, _item(meta), references))
            container = chain.container
        crossing, out = _frames(meta, output)
        timings = {**output.timings, "distort": whole_ms - sum(output.timings.values())}
        measured = None
        if fidelity:
            try:
                measured, fidelity_ms = timed(lambda: _fidelity(references, output, compare, meta.features))
            except ValueError as error:
                raise FrameError(str(error)) from None
            telemetry = telemetry.with_timings(fidelity=fidelity_ms)
    parts, write_ms = timed(lambda: wire.write(out))
    telemetry = telemetry.with_timings(**timings, serialize=write_ms + telemetry.timings.get("serialize", 0))
    figures = {} if measured is None else measured.figures(frame.meta.domain)
    crossing_bytes = wire.nbytes(parts if crossing is out else wire.write(crossing))
    bitstreams = {name: picture.data for name, picture in output.coded.items()}
    bits = 8 * _bytes(crossing, crossing_bytes, bitstreams) + output.overhead_bits
    telemetry = Telemetry(telemetry.timings, bits, figures)
    return Transmission(out, parts, crossing, telemetry, measured, bitstreams, container)


def _item(meta: Meta) -> Item:
    return meta.key if meta.image_id is None else meta.image_id


def _still(chain: Chain, item: Item, levels: Mapping[str, Array]) -> ChainOutput:
    """A still is a sequence of one."""
    (output,) = [*chain.push(item, levels), *chain.close()]
    return output


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


def _references(frame: Frame, condition: Condition) -> dict[str, Array]:
    """The clean floats a chain starts from; an image's are its pixels at the size the condition is ``at``."""
    if frame.meta.domain == "feature":
        spec = frame.meta.features
        for tensor in frame.tensors:
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
