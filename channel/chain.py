"""Run a chain of distortions and codecs over a pyramid's levels or an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from featlink.channel.codecs.base import Codec, SampleCodec, Tools
from featlink.channel.codecs.coding import code_all, code_samples
from featlink.channel.codecs.layout import from_pictures, to_pictures
from featlink.channel.distortions.base import IMAGE, Distortion, Planes
from featlink.channel.distortions.quantize import requantize
from featlink.channel.randomness import stream
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import Step
from featlink.shared.errors import StepError
from featlink.shared.frames import bitstream
from featlink.shared.frames.packing import tile, untile
from featlink.shared.timing import timed


@dataclass(frozen=True)
class ChainResult:
    """What a chain made of the samples.

    Attributes:
        planes: as the receiver has them, by tensor name.
        bitstreams: what a codec made of them, by plane name; they cross the link in the samples' place.
        extension: of a file with such a bitstream.
        overhead_bits: what crosses besides, e.g. packet headers.
        timings: ``compress`` and ``decompress``, ms, where there was a codec.
    """

    planes: dict[str, Planes]
    bitstreams: dict[str, bytes] = field(default_factory=dict)
    extension: str = ""
    overhead_bits: int = 0
    timings: dict[str, float] = field(default_factory=dict)


_PIXEL_DEPTH = 8
"""Bits per sample of the images that codecs take."""


def first_depth(condition: Condition, steps: tuple[Step, ...]) -> int:
    """Bits per sample that the floats are mapped to.

    A chain that begins with quantisation or a codec begins at its depth: mapping to 8 bits before would round twice.
    Steps that have narrowed the floats' ranges are none of ``steps``, of which there may be no others.

    Args:
        condition: its depth is for chains that begin otherwise.
        steps: behind a reduction.
    """
    if not steps:
        return condition.bit_depth
    first = steps[0]
    if isinstance(first, Codec):
        return _coded_depth(first, condition)
    return (first.first_depth if isinstance(first, Distortion) else None) or condition.bit_depth


def run(
    planes: Mapping[str, Planes],
    steps: tuple[Step, ...],
    condition: Condition,
    seeds: Sequence[int],
    image: object,
    tools: Tools,
) -> ChainResult:
    """Apply the steps in order.

    Args:
        planes: by tensor name, (C, H, W) each.
        steps: of the condition, and what a link adds.
        condition: gives layout, packing and bit depth.
        seeds: of the steps.
        image: names the image's random streams.
        tools: the codecs' programs.

    Raises:
        CodecError: an encoder or decoder failed.
        StepError: a step made what cannot be sent.
    """
    sent = ChainResult(dict(planes))
    for i, (step, seed) in enumerate(zip(steps, seeds, strict=True)):
        if isinstance(step, Codec):
            sent = _code(sent, step, condition, tools)
            continue
        if isinstance(step, SampleCodec):
            sent = _code_samples(sent, step, tools)
            continue
        if not isinstance(step, Distortion):
            raise StepError(f"{step.type} is neither a distortion nor a codec, and cannot be run")
        distorted = {
            name: _distort(part, step, condition, name, stream(seed, image, name, i))
            for name, part in sent.planes.items()
        }
        overhead = sum(
            step.overhead_bits(8 * bitstream.nbytes(part.samples.size, part.bits)) for part in distorted.values()
        )
        sent = replace(sent, planes=distorted, overhead_bits=sent.overhead_bits + overhead)
    return sent


def _distort(planes: Planes, step: Distortion, condition: Condition, name: str, rng: np.random.Generator) -> Planes:
    if not step.keeps_depth:  # acts on grey images of the condition's depth, whatever came before
        planes = _at_depth(planes, condition.bit_depth)
    planes = replace(planes, name=name)
    if not (step.spatial and condition.layout == "tiled" and name != IMAGE):
        return _checked(step, planes, step.apply(planes, rng))
    tiles = replace(planes, samples=tile(planes.samples)[None])
    tiled = _checked(step, tiles, step.apply(tiles, rng))
    return replace(tiled, samples=untile(tiled.samples[0], len(planes.samples)))


def _checked(step: Distortion, given: Planes, made: Planes) -> Planes:
    """A step of another package may be wrong; its fault must not become a frame that says something else."""
    shape, dtype = made.samples.shape, made.samples.dtype
    if shape != given.samples.shape or dtype != bitstream.dtype_for(made.bits):
        wanted = f"{bitstream.dtype_for(made.bits).name} {given.samples.shape}"
        raise StepError(f"{step.type} made {dtype} {shape} of samples that stay {wanted}")
    if int(made.samples.max()) >= 1 << made.bits:
        raise StepError(f"{step.type} made a sample of {int(made.samples.max())}, which {made.bits} bits do not hold")
    return made


def _code(sent: ChainResult, codec: Codec, condition: Condition, tools: Tools) -> ChainResult:
    planes = {name: _at_depth(part, _coded_depth(codec, condition)) for name, part in sent.planes.items()}
    pictures = to_pictures({name: part.samples for name, part in planes.items()}, condition.packing)
    made = code_all(list(pictures.values()), codec, tools)
    coded = dict(zip(pictures, made.results, strict=True))
    shapes = {name: part.samples.shape for name, part in planes.items()}
    decoded = from_pictures({name: one.decoded for name, one in coded.items()}, shapes, condition.packing)
    return replace(
        sent,
        planes={name: replace(part, samples=decoded[name]) for name, part in planes.items()},
        bitstreams={name: one.bitstream for name, one in coded.items()},
        extension=codec.container,
        timings={"compress": made.encode_ms, "decompress": made.decode_ms},
    )


def _code_samples(sent: ChainResult, codec: SampleCodec, tools: Tools) -> ChainResult:
    coded, whole_ms = timed(lambda: code_samples(list(sent.planes.values()), codec, tools))
    bitstreams = {name: one.bitstream for name, one in zip(sent.planes, coded, strict=True)}
    planes = {
        name: replace(part, samples=one.decoded) for (name, part), one in zip(sent.planes.items(), coded, strict=True)
    }
    encode_ms, decode_ms = sum(one.encode_ms for one in coded), sum(one.decode_ms for one in coded)
    share = encode_ms / (encode_ms + decode_ms)  # planes overlap, and each is decoded when it is encoded
    timings = {"compress": share * whole_ms, "decompress": (1 - share) * whole_ms}
    return replace(sent, planes=planes, bitstreams=bitstreams, extension=codec.container, timings=timings)


def _coded_depth(codec: Codec, condition: Condition) -> int:
    return codec.plane_depth if condition.domain == "feature" else _PIXEL_DEPTH


def _at_depth(planes: Planes, bits: int) -> Planes:
    return replace(planes, samples=requantize(planes.samples, planes.bits, bits), bits=bits)
