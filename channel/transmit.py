"""Frame → frame: reduce, map floats to samples, run the chain, restore; count bits, measure fidelity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featlink.channel import chain
from featlink.channel.chain import ChainResult
from featlink.channel.codecs.base import Tools
from featlink.channel.distortions.base import Distortion, Planes
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.reduction.base import Reduction
from featlink.channel.resizing import resized
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import Step
from featlink.shared.errors import ConditionError, FrameError
from featlink.shared.features import Array
from featlink.shared.frames import bitstream, wire
from featlink.shared.frames.packing import dequantize, level_range, quantize
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.metrics.fidelity import Compare, Fidelity, compare_images, compare_pyramids
from featlink.shared.models.fpn import FPN
from featlink.shared.result import Telemetry
from featlink.shared.timing import timed

_PIXEL_RANGE = np.array([[0, 255]], np.float32)
"""8-bit pictures have a nominal range, so quantising them needs no side information of their own."""
_UNCHANGED = Fidelity(psnr=math.inf, ssim=1.0, spearman=1.0)
"""Of a level that nothing has touched."""


@dataclass(frozen=True)
class Transmission:
    """What left the channel.

    Attributes:
        frame: to the cloud. Of a reduction, the restored levels as floats.
        parts: the frame's bytes.
        crossing: what the link carries, unless a codec's bitstreams take its samples' place: the same frame, or of a
            reduction the one with the reduced planes.
        report: the sender's, with the channel's timings, bits and fidelity.
        fidelity: how near the received levels or pixels are to the clean ones; None where it was not measured.
        bitstreams: what a codec made of each plane.
        extension: of a file with such a bitstream.
    """

    frame: Frame
    parts: list[wire.Buffer]
    crossing: Frame
    report: Telemetry
    fidelity: Fidelity | None
    bitstreams: Mapping[str, bytes]
    extension: str


def transmit(
    frame: Frame,
    condition: Condition,
    report: Telemetry,
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
        report: what the sender reported.
        fidelity: measure it (nothing to measure under identity).
        tools: the codecs' programs; default: the bundled ones.
        erasure: what a link that erases packets does to the samples after the chain; the frame's condition does not
            name it, as it belongs to the link.
        erasure_seed: of that; the condition's is for its own steps.
        compare: what measures a pyramid's fidelity.

    Returns:
        The distorted frame with what there is to say of it. Under identity its tensors are the given ones.

    Raises:
        ConditionError: unknown step, or of the other domain, or a codec on a link that erases packets.
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
    if not steps:
        out = crossing = Frame(meta, frame.tensors)
        levels = {tensor.name: _UNCHANGED for tensor in frame.tensors if tensor.name != wire.IMAGE}
        measured: Fidelity | None = replace(_UNCHANGED, levels=levels)
        result = ChainResult({})
    else:
        references = _references(frame, condition)
        sent, whole_ms = timed(lambda: _send(meta, references, condition, steps, seeds, tools or Tools()))
        crossing, out, result = sent.crossing, sent.out, sent.result
        timings = {**sent.timings, "distort": whole_ms - sum(sent.timings.values())}
        measured = None
        if fidelity:
            try:
                measured, fidelity_ms = timed(lambda: _fidelity(references, out, compare))
            except ValueError as error:
                raise FrameError(str(error)) from None
            report = report.with_timings(fidelity=fidelity_ms)
    parts, write_ms = timed(lambda: wire.write(out))
    report = report.with_timings(**timings, serialize=write_ms + report.timings.get("serialize", 0))
    figures = {} if measured is None else _named(frame.meta.domain, measured)
    crossing_bytes = wire.nbytes(parts if crossing is out else wire.write(crossing))
    report = Telemetry(report.timings, _bits(crossing, crossing_bytes, result), figures)
    return Transmission(out, parts, crossing, report, measured, result.bitstreams, result.extension)


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


@dataclass(frozen=True)
class _Sent:
    """Both ends of the link, what the chain made, and the stages that are told apart, in ms."""

    crossing: Frame
    out: Frame
    result: ChainResult
    timings: dict[str, float]


def _send(
    meta: Meta,
    references: Mapping[str, Array],
    condition: Condition,
    steps: tuple[Step, ...],
    seeds: Sequence[int],
    tools: Tools,
) -> _Sent:
    reduction = steps[0] if isinstance(steps[0], Reduction) else None
    if reduction is None:
        crossing, result = _through(meta, references, condition, None, steps, seeds, tools)
        return _Sent(crossing, crossing, result, result.timings)
    reduced, reduce_ms = timed(lambda: reduction.reduce(references, meta.weights))
    crossing, result = _through(meta, reduced, condition, reduction, steps[1:], seeds[1:], tools)

    def restore() -> Frame:
        levels = reduction.restore({tensor.name: _floats(tensor) for tensor in crossing.tensors}, meta.weights)
        return Frame(meta, tuple(Tensor(name, level) for name, level in levels.items()))

    out, restore_ms = timed(restore)
    return _Sent(crossing, out, result, {"reduce": reduce_ms, **result.timings, "restore": restore_ms})


def _through(
    meta: Meta,
    values: Mapping[str, Array],
    condition: Condition,
    reduction: Reduction | None,
    steps: tuple[Step, ...],
    seeds: Sequence[int],
    tools: Tools,
) -> tuple[Frame, ChainResult]:
    """Map floats to samples and run the chain on them: the frame as it arrives."""
    chosen = None if reduction is None else reduction.chosen(values, chain.first_depth(condition, steps))
    if chosen is not None:
        values, ranges = chosen
    else:
        ranges = {name: _range(name, plane, condition) for name, plane in values.items()}
        ranges, narrowing = _narrowed(values, ranges, steps)
        steps, seeds = steps[narrowing:], seeds[narrowing:]
        if narrowing or condition.range == "fixed":
            values = {name: _clipped(plane, ranges[name]) for name, plane in values.items()}
    bits = chain.first_depth(condition, steps)
    planes = {n: Planes(quantize(plane, ranges[n], bits), bits, ranges[n]) for n, plane in values.items()}
    image = meta.key if meta.image_id is None else meta.image_id
    result = chain.run(planes, steps, condition, seeds, image, tools)
    tensors = tuple(Tensor(name, p.samples, p.bits, planes[name].ranges) for name, p in result.planes.items())
    return Frame(meta, tensors), result


def _bits(frame: Frame, frame_bytes: int, result: ChainResult) -> int:
    """What crosses the link: the frame, a codec's bitstreams in the place of its samples, and packet headers."""
    if result.bitstreams:
        frame_bytes -= sum(bitstream.nbytes(t.data.size, t.bits or 8) for t in frame.tensors)
        frame_bytes += sum(map(len, result.bitstreams.values()))
    return 8 * frame_bytes + result.overhead_bits


def _references(frame: Frame, condition: Condition) -> dict[str, Array]:
    """The clean floats a chain starts from; an image's are its pixels at the size the condition is ``at``."""
    if frame.meta.domain == "feature":
        for tensor in frame.tensors:
            channels = FPN[tensor.name].channels if tensor.name in FPN.names else 0
            if tensor.data.dtype != np.float32 or tensor.bits is not None or len(tensor.data) != channels:
                has = f"{tensor.data.dtype.name} in {len(tensor.data)} channels"
                raise FrameError(f"{tensor.name} is {has}, distortions take float32 in {channels}")
        return {tensor.name: tensor.data for tensor in frame.tensors}  # type: ignore[misc]
    pixels = frame.tensor("image").data
    if pixels.dtype != np.uint8 or pixels.shape != (3, *frame.meta.sizes.original):
        raise FrameError(f"image is {pixels.dtype.name} {pixels.shape}, not uint8 RGB of its original size")
    if condition.at == "original":
        return {"image": pixels.astype(np.float32)}
    return {"image": resized(pixels, frame.meta.sizes.resized)}


def _range(name: str, values: Array, condition: Condition) -> npt.NDArray[np.float32]:
    if name == "image":
        return _PIXEL_RANGE
    try:
        measured = level_range(values, "channel" if condition.range == "channel" else "level")
    except ValueError as error:
        raise FrameError(f"{name}: {error}") from None
    if condition.range != "fixed":
        return measured
    return np.array([condition.ranges.get(name) or condition.ranges["p5"]], np.float32)  # p6 is p5's samples


def _narrowed(
    references: Mapping[str, Array], ranges: dict[str, npt.NDArray[np.float32]], steps: tuple[Step, ...]
) -> tuple[dict[str, npt.NDArray[np.float32]], int]:
    """The ranges after the first steps, as many as act on floats, and how many those are."""
    for count, step in enumerate(steps):
        narrowed = {
            n: step.narrow(v, ranges[n]) if isinstance(step, Distortion) else None for n, v in references.items()
        }
        if any(one is None for one in narrowed.values()):
            return ranges, count
        ranges = {name: one for name, one in narrowed.items() if one is not None}
    return ranges, len(steps)


def _clipped(values: Array, ranges: npt.NDArray[np.float32]) -> Array:
    return np.clip(values, ranges[:, 0, None, None], ranges[:, 1, None, None])


def _fidelity(references: Mapping[str, Array], out: Frame, compare: Compare) -> Fidelity:
    received = {tensor.name: _floats(tensor) for tensor in out.tensors}
    if "image" in references:
        return compare_images(references["image"], received["image"])
    whole = FPN.complete(received)  # as the cloud does
    return compare(references, {name: whole[name] for name in references})


def _floats(tensor: Tensor) -> Array:
    if tensor.bits is None or tensor.ranges is None:
        return tensor.data  # type: ignore[return-value]  # a reduction's restored levels
    return dequantize(tensor.data, tensor.ranges, tensor.bits)  # type: ignore[arg-type]


def _named(domain: str, fidelity: Fidelity) -> dict[str, float | None]:
    """The metrics as reported: ``psnr_f``.. of a pyramid ([F]), ``psnr_i``.. of an image ([I])."""
    if domain == "image":
        return {"psnr_i": _finite(fidelity.psnr), "ssim_i": fidelity.ssim}
    return {"psnr_f": _finite(fidelity.psnr), "ssim_f": fidelity.ssim, "spearman_f": fidelity.spearman}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
