"""The chain of a condition's steps, opened once for a still or a sequence: sent levels in, received levels out.

::

    floats ─ reduce ─ samples ─ distortions ─ codec ─ packets ─ distortions ─ floats ─ restore
                      (ranges, clipping)      (bitstreams)  (loss, concealment)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from featlink.channel.codecs.base import (
    AccessUnit,
    Codec,
    CodedPicture,
    CodedPlanes,
    Differences,
    PictureFormat,
    PlaneCoder,
    Tools,
    from_pictures,
    picture_formats,
    to_pictures,
)
from featlink.channel.distortions.base import Distortion, Planes
from featlink.channel.distortions.packet_loss import Mask, PacketLoss, as_samples, conceal
from featlink.channel.distortions.quantize import requantize
from featlink.channel.packets import PacketPath, PacketReport
from featlink.channel.randomness import Item, stream
from featlink.channel.reduction.base import PredictingReduction, Reduction
from featlink.channel.reduction.motion import HEAD, REACH, Prediction, Receiver, Sender, Sent
from featlink.channel.reduction.pca import Basis
from featlink.shared.conditions.language import Condition, with_ranges
from featlink.shared.conditions.registry import Step
from featlink.shared.errors import ConditionError, FrameError, StepError
from featlink.shared.features import Array, FeatureSpec
from featlink.shared.fitted import key
from featlink.shared.fpn import FPN
from featlink.shared.frames import bitstream
from featlink.shared.frames.packing import dequantize, level_range, quantize, tile, untile
from featlink.shared.frames.wire import IMAGE, LATENT, REDUCED
from featlink.shared.timing import timed

_PIXEL_RANGE = np.array([[0, 255]], np.float32)
"""8-bit pictures have a nominal range, so quantising them needs no side information of their own."""

_MARGIN = np.float32(1 / 16)
"""Of a range that is kept for further items, on either side, so that few of their values are clipped."""

Ranges = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ChainOutput:
    """One item at the end of the chain.

    Attributes:
        item: names its random streams.
        planes: samples as the receiver has them, by tensor name; of a reduction, its planes.
        levels: what a reduction restored of them; None without one.
        coded: what a codec made, by picture name; its units cross the link in the samples' place.
        overhead_bits: what crosses besides, e.g. packet headers.
        timings: ``reduce``, ``compress``, ``decompress``, ``restore``: ms, of those there are.
        key: whether the receiver needs no item before it.
        held: how many items had been pushed after it when it came out.
        packets: what became of its packets; None where there are none.
        lost: whether nothing of it came, and nothing before it stands in: its planes mean nothing.
    """

    item: Item
    planes: Mapping[str, Planes]
    levels: Mapping[str, Array] | None = None
    coded: Mapping[str, CodedPicture] = field(default_factory=dict)
    overhead_bits: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)
    key: bool = True
    held: int = 0
    packets: PacketReport | None = None
    lost: bool = False


@dataclass(frozen=True)
class _Placed:
    """A distortion in its place of the chain, which with its seed names its random streams."""

    step: Distortion
    seed: int
    place: int


class _Ends:
    """Both ends of a stream of predicted components, between which there are samples.

    Args:
        basis: of the components.
        step: of key frames.
    """

    def __init__(self, basis: Basis, step: float) -> None:
        prediction = Prediction(basis, step)
        self._step, self._sender, self._receiver = np.float32(step), Sender(prediction), Receiver(prediction)

    def send(self, components: Array, alone: bool, bits: int) -> Planes:
        """Samples (HEAD + K, h, w) of the next components (K, h, w); the one in the middle stands for 0.

        Raises:
            ConditionError: the samples are too small for vectors.
        """
        zero = 1 << (bits - 1)
        if zero <= 2 * REACH:
            raise ConditionError(f"gop=low_delay sends vectors, which samples of {bits} bits do not hold")
        samples = np.concatenate(self._sender.push(components, alone, zero - 1)) + zero
        ranges = self._step * np.array([[-zero, zero - 1]], np.float32)
        return Planes(samples.astype(bitstream.dtype_for(bits)), bits, ranges, LATENT)

    def receive(self, part: Planes, alone: bool, lost: bool) -> Array:
        """Components (K, h, w) of the samples that came, which are not gone on from if all are lost."""
        whole = np.rint(floats(part) / self._step).astype(np.int32)
        if lost:
            nothing: Array = whole[HEAD:].astype(np.float32) * self._step
            return nothing
        return self._receiver.push(Sent(whole[:HEAD], whole[HEAD:]), alone)


class Chain:
    """Steps in order, for the items of one sequence. Use it in a ``with`` statement, which ends coders that run.

    Args:
        steps: of the condition, then what a link adds.
        condition: gives layout, packing, ranges and bit depth.
        seeds: of the steps; default: the condition's.
        weights: identity of the network's weights; with the spec, what a reduction was fitted to.
        tools: the codecs' programs.
        spec: of the levels; a derived one without a fixed range of its own has its source's.

    Raises:
        StepError: a step is of no kind that can be run.
        ConditionError: a fixed range is that of no level.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        condition: Condition,
        seeds: Sequence[int] | None = None,
        weights: str = "",
        tools: Tools | None = None,
        spec: FeatureSpec = FPN,
    ) -> None:
        self._condition, self._fitted_to, self._tools = with_ranges(condition, spec), key(weights, spec), tools
        self._reduction: Reduction | None = None
        self._codec: Codec | None = None
        self._path: PacketPath | None = None
        self._before: list[_Placed] = []
        self._after: list[_Placed] = []
        for place, step in enumerate(steps):
            seed = condition.seed if seeds is None else seeds[place]
            if isinstance(step, Reduction):
                self._reduction = step
            elif isinstance(step, Codec):
                self._codec = step
            elif self._codec is not None and isinstance(step, PacketLoss):
                self._path = PacketPath(step, seed, place)
            elif isinstance(step, Distortion):
                (self._before if self._codec is None else self._after).append(_Placed(step, seed, place))
            else:
                raise StepError(f"{step.type} is neither a distortion nor a codec, and cannot be run")
        self._coder: PlaneCoder | None = None
        self._waiting: deque[ChainOutput] = deque()
        self._skipped = self._number = 0
        self._ranges: dict[str, Ranges] = {}
        self._ends: _Ends | None = None
        self._received: Mapping[str, Array] = {}
        self._reports: deque[PacketReport] = deque()
        self._pushed = 0
        self._restart_at: int | None = None

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *given: object) -> None:
        if self._coder is not None:
            self._coder.__exit__(*given)

    @property
    def container(self) -> str:
        """Extension of a file with one of the codec's bitstreams; empty without a codec."""
        return "" if self._codec is None else self._codec.container

    def push(self, item: Item, levels: Mapping[str, Array]) -> list[ChainOutput]:
        """Send one item through the chain; those come out whose last bit has arrived.

        Args:
            item: names its random streams.
            levels: float32 (C, H, W) by tensor name, or the ``image``; not written to.

        Raises:
            ConditionError: a reduction has nothing fitted to these weights.
            CodecError: an encoder or decoder failed.
            FrameError: the levels are not finite, of sizes that a reduction does not take, or others than before.
            StepError: a step made what cannot be sent.
        """
        if self._pushed == self._restart_at:
            self._restart()
        self._pushed += 1
        values, timings = levels, {}
        if self._reduction is not None and not levels.keys() & set(REDUCED):  # else an exported edge has done it
            reduction = self._reduction
            values, timings["reduce"] = timed(lambda: reduction.reduce(levels, self._fitted_to))
        number, self._number = self._number, self._number + 1
        alone, narrowing = True, 0
        if isinstance(self._reduction, PredictingReduction) and self._predicts:
            self._ends = self._ends or _Ends(*self._reduction.predicted_in(self._fitted_to))
            alone = number % self._reduction.prediction_period == 0
            part, predict_ms = timed(partial(self._ends.send, values[LATENT], alone, self._first_depth(0)))
            planes, timings["reduce"] = {LATENT: part}, timings.get("reduce", 0.0) + predict_ms
        else:
            planes, narrowing = self._samples(values, number)
        # A reduction and what narrowed the ranges have no place among the steps that name random streams.
        self._skipped = narrowing + (self._reduction is not None)
        output = self._distorted(ChainOutput(item, planes, timings=timings, key=alone), self._before[narrowing:])
        return [self._restored(output)] if self._codec is None else self._code(output, self._codec)

    def close(self) -> list[ChainOutput]:
        """Give the items that are left.

        Raises:
            CodecError: an encoder or decoder failed.
        """
        if self._codec is None or self._coder is None:
            return []
        return self._finished(self._codec, self._coder.close())

    # Floats to samples.

    @property
    def _predicts(self) -> bool:
        return self._reduction is not None and self._reduction.prediction_period > 1

    @property
    def _differences(self) -> Differences | None:
        """What the codec codes with contexts of the items before; None where a loss would make these wrong."""
        if self._reduction is None or not self._predicts or self._path is not None:
            return None
        return Differences(HEAD, self._reduction.prediction_period)

    def _samples(self, values: Mapping[str, Array], number: int) -> tuple[dict[str, Planes], int]:
        """Samples of floats, and how many first steps acted on the floats."""
        chosen = None if self._reduction is None else self._reduction.chosen(values, self._first_depth(0))
        narrowing = 0
        if chosen is not None:
            values, ranges = chosen
        else:
            ranges = {name: self._range(name, plane) for name, plane in values.items()}
            if self._condition.range == "fixed":  # a measured one holds all values
                values = _clipped(values, ranges)
            values, ranges, narrowing = self._narrowed(values, ranges)
            values, ranges = self._kept(values, ranges, number)
        bits = self._first_depth(narrowing)
        planes = {n: Planes(quantize(v, ranges[n], bits), bits, ranges[n], n) for n, v in values.items()}
        return planes, narrowing

    def _first_depth(self, narrowing: int) -> int:
        """Bits per sample that the floats are mapped to.

        A chain that begins with quantisation or a codec begins at its depth: mapping to 8 bits before would round
        twice.
        """
        if len(self._before) > narrowing:
            return self._before[narrowing].step.first_depth or self._condition.bit_depth
        return self._condition.bit_depth if self._codec is None else self._coded_depth(self._condition.bit_depth)

    def _coded_depth(self, bits: int) -> int:
        return bits if self._codec is None else self._codec.depth(bits, image=self._condition.domain == "image")

    def _range(self, name: str, values: Array) -> Ranges:
        if name == IMAGE:
            return _PIXEL_RANGE
        try:
            measured = level_range(values, "channel" if self._condition.range == "channel" else "level")
        except ValueError as error:
            raise FrameError(f"{name}: {error}") from None
        if self._condition.range != "fixed":
            return measured
        return np.array([self._condition.ranges[name]], np.float32)

    def _narrowed(
        self, values: Mapping[str, Array], ranges: dict[str, Ranges]
    ) -> tuple[Mapping[str, Array], dict[str, Ranges], int]:
        """Values and their ranges after the first steps, as many as act on floats, and how many those are."""
        for count, placed in enumerate(self._before):
            narrowed = {name: placed.step.narrow(plane, ranges[name]) for name, plane in values.items()}
            if any(pairs is None for pairs in narrowed.values()):
                return values, ranges, count
            ranges = {name: pairs for name, pairs in narrowed.items() if pairs is not None}
            values = _clipped(values, ranges)
        return values, ranges, len(self._before)

    def _kept(
        self, values: Mapping[str, Array], ranges: dict[str, Ranges], number: int
    ) -> tuple[Mapping[str, Array], dict[str, Ranges]]:
        """Values and ranges for a codec that predicts: those of its last intra picture, somewhat wider; others clipped.

        With a range of each item's own, what stands still would have other samples in every picture.
        """
        period = 1 if self._codec is None else self._codec.prediction_period
        if period == 1 or IMAGE in ranges or self._condition.range == "fixed":
            return values, ranges
        if number % period == 0:
            self._ranges = {name: _widened(pairs) for name, pairs in ranges.items()}
        return _clipped(values, self._ranges), self._ranges

    # Distortions.

    def _distorted(self, output: ChainOutput, steps: Iterable[_Placed]) -> ChainOutput:
        planes, overhead_bits = output.planes, output.overhead_bits
        for placed in steps:
            step, place = placed.step, placed.place - self._skipped
            planes = {
                name: self._distort(part, step, stream(placed.seed, output.item, name, place))
                for name, part in planes.items()
            }
            overhead_bits += sum(
                step.overhead_bits(8 * bitstream.nbytes(part.samples.size, part.bits)) for part in planes.values()
            )
        return replace(output, planes=planes, overhead_bits=overhead_bits)

    def _distort(self, planes: Planes, step: Distortion, rng: np.random.Generator) -> Planes:
        if not step.keeps_depth:  # acts on grey images of the condition's depth, whatever came before
            planes = _at_depth(planes, self._condition.bit_depth)
        if not (step.spatial and self._condition.layout == "tiled" and not planes.is_image):
            return _checked(step, planes, step.apply(planes, rng))
        tiles = replace(planes, samples=tile(planes.samples)[None])
        tiled = _checked(step, tiles, step.apply(tiles, rng))
        return replace(tiled, samples=untile(tiled.samples[0], len(planes.samples)))

    # The codec.

    def _code(self, output: ChainOutput, codec: Codec) -> list[ChainOutput]:
        planes = {name: _at_depth(part, self._coded_depth(part.bits)) for name, part in output.planes.items()}
        packing = self._condition.packing
        if self._coder is None:
            differences = self._differences
            forms = {name: PictureFormat(_shape(part.samples), part.bits, differences) for name, part in planes.items()}
            carry = None if self._path is None else self._carried
            self._coder = PlaneCoder(codec, picture_formats(forms, codec, packing), self._tools, carry)
        pictures = to_pictures({name: part.samples for name, part in planes.items()}, codec, packing)
        if {name: picture.shape for name, picture in pictures.items()} != self._coder.shapes:
            raise FrameError("the tensors of a sequence keep their names and shapes")
        self._waiting.append(replace(output, planes=planes))
        return self._finished(codec, self._coder.push(pictures))

    def _finished(self, codec: Codec, ready: Iterable[CodedPlanes]) -> list[ChainOutput]:
        return [self._decoded(codec, coded, self._waiting.popleft()) for coded in ready]

    def _decoded(self, codec: Codec, coded: CodedPlanes, output: ChainOutput) -> ChainOutput:
        pictures = {name: picture.decoded for name, picture in coded.pictures.items()}
        shapes = {name: part.samples.shape for name, part in output.planes.items()}
        decoded = from_pictures(pictures, shapes, codec, self._condition.packing)
        output = replace(
            output,
            planes={name: replace(part, samples=decoded[name]) for name, part in output.planes.items()},
            coded=coded.pictures,
            timings={**output.timings, "compress": coded.encode_ms, "decompress": coded.decode_ms},
            held=coded.held,
        )
        if self._path is not None:
            output = self._concealed(output, coded, codec, self._path.step)
        restored = self._restored(self._distorted(output, self._after))
        return replace(restored, key=restored.key and coded.key)

    # Packets of the codec's units.

    def _carried(self, units: Mapping[str, AccessUnit]) -> Mapping[str, AccessUnit]:
        if self._path is None:
            return units
        carried, report = self._path.carry(self._waiting[-1].item, units)
        self._reports.append(report)
        return carried

    def _concealed(self, output: ChainOutput, coded: CodedPlanes, codec: Codec, step: PacketLoss) -> ChainOutput:
        """An item with something in the place of what is missing; a key frame is asked for, where that is worth it."""
        report = self._reports.popleft()
        report = replace(report, rows=self._lost_rows(report, coded, codec))
        output = replace(output, packets=report, overhead_bits=output.overhead_bits + report.overhead_bits)
        shapes = {name: part.samples.shape for name, part in output.planes.items()}
        rows = {
            n: np.zeros(p.decoded.shape[1], bool) if p.missing is None else p.missing for n, p in coded.pictures.items()
        }
        damaged, lost = any(gone.any() for gone in rows.values()), all(gone.all() for gone in rows.values())
        planes, before = output.planes, {} if step.conceal != "last" else self._received
        if damaged:
            whole = {n: np.broadcast_to(gone[:, None], coded.pictures[n].decoded.shape) for n, gone in rows.items()}
            missing = from_pictures(whole, shapes, codec, self._condition.packing)
            if not output.key:  # of what changed nothing is known, so that the item before stays
                planes = {name: replace(p, samples=conceal(p, missing[name], "zero")) for name, p in planes.items()}  # type: ignore[arg-type]
                lost = lost and not self._received
            else:
                planes = _stood_in(planes, missing, step, before)  # type: ignore[arg-type]
                lost = lost and not before
        if step.conceal == "last" and not lost and not self._predicts:
            self._received = {name: floats(part) for name, part in planes.items()}
        self._ask_for_key(damaged or bool(report.missing), step)
        return replace(output, planes=planes, lost=lost)

    def _lost_rows(self, report: PacketReport, coded: CodedPlanes, codec: Codec) -> tuple[tuple[float, float], ...]:
        """Where missing units belong; those of tiles are somewhere in each channel or in all of some."""
        if codec.tiles and self._condition.domain == "feature":
            return ((0.0, 1.0),) if report.missing else ()
        found: list[tuple[float, float]] = []
        for name, number in report.missing:
            picture = coded.pictures[name]
            form = PictureFormat(_shape(picture.decoded))
            top, end = codec.unit_rows(picture.coded, form)[number]
            found.append((top / form.shape[1], end / form.shape[1]))
        return merged(found)

    def _ask_for_key(self, damaged: bool, step: PacketLoss) -> None:
        remembers = self._predicts or (self._codec is not None and self._codec.prediction_period > 1)
        if damaged and remembers and step.key_request and self._restart_at is None:
            self._restart_at = self._pushed - 1 + step.key_request

    def _restart(self) -> None:
        """Begin anew with an item that is coded alone."""
        if self._coder is not None:
            self._coder.__exit__(None, None, None)
        self._coder = self._restart_at = None
        self._number = 0

    # Samples to floats.

    def _restored(self, output: ChainOutput) -> ChainOutput:
        if self._reduction is None:
            return output
        reduction, ends = self._reduction, self._ends

        def restore() -> Mapping[str, Array]:
            if ends is None:
                return reduction.restore({name: floats(part) for name, part in output.planes.items()}, self._fitted_to)
            components = ends.receive(output.planes[LATENT], output.key, output.lost)
            if not output.lost:
                self._received = {LATENT: np.pad(components, ((HEAD, 0), (0, 0), (0, 0)))}  # as a key frame has them
            return reduction.restore({LATENT: components}, self._fitted_to)

        levels, restore_ms = timed(restore)
        return replace(output, levels=levels, timings={**output.timings, "restore": restore_ms})


def merged(parts: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Parts of a line, those that touch or overlap made one, in order.

    Example:
        >>> merged([(0.5, 0.75), (0, 0.25), (0.25, 0.3), (0.1, 0.2)])
        ((0, 0.3), (0.5, 0.75))
    """
    out: list[tuple[float, float]] = []
    for top, end in sorted(parts):
        if out and top <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((top, end))
    return tuple(out)


def floats(planes: Planes) -> Array:
    """The values that samples stand for, float32 (C, H, W)."""
    return dequantize(planes.samples, planes.ranges, planes.bits)


def _widened(ranges: Ranges) -> Ranges:
    margin = (ranges[:, 1:] - ranges[:, :1]) * _MARGIN
    return ranges + margin * np.array([-1, 1], np.float32)


def _clipped(values: Mapping[str, Array], ranges: Mapping[str, Ranges]) -> dict[str, Array]:
    return {
        name: np.clip(plane, ranges[name][:, :1, None], ranges[name][:, 1:, None]) for name, plane in values.items()
    }


def _checked(step: Distortion, before: Planes, after: Planes) -> Planes:
    """A step of another package may be wrong; its fault must not become a frame that says something else."""
    shape, dtype = after.samples.shape, after.samples.dtype
    if shape != before.samples.shape or dtype != bitstream.dtype_for(after.bits):
        expected = f"{bitstream.dtype_for(after.bits).name} {before.samples.shape}"
        raise StepError(f"{step.type} made {dtype} {shape} of samples that stay {expected}")
    if int(after.samples.max()) >= 1 << after.bits:
        raise StepError(f"{step.type} made a sample of {int(after.samples.max())}, which {after.bits} bits do not hold")
    return replace(after, ranges=before.ranges, name=before.name)


def _stood_in(
    planes: Mapping[str, Planes], missing: Mapping[str, Mask], step: PacketLoss, before: Mapping[str, Array]
) -> dict[str, Planes]:
    """Planes in which something stands for what is missing; of a level that is lost whole, another level."""
    gone = {name for name, mask in missing.items() if mask.all()}
    concealed = {
        name: replace(part, samples=conceal(part, missing[name], step.conceal, before.get(name)))
        for name, part in planes.items()
    }
    names = list(planes)
    if step.conceal in ("neighbour", "last"):
        for name in gone - before.keys():
            at = names.index(name)
            there = [other for other in [*names[at + 1 :], *reversed(names[:at])] if other not in gone]
            if there and len(planes[there[0]].samples) == len(planes[name].samples):
                size = planes[name].samples.shape[:0:-1]
                other = [cv2.resize(channel, size) for channel in floats(concealed[there[0]])]
                concealed[name] = replace(planes[name], samples=as_samples(np.stack(other), planes[name]))
    return concealed


def _at_depth(planes: Planes, bits: int) -> Planes:
    return replace(planes, samples=requantize(planes.samples, planes.bits, bits), bits=bits)


def _shape(samples: bitstream.Samples) -> tuple[int, int, int]:
    count, height, width = samples.shape
    return count, height, width
