"""Run a chain of distortions and codecs over a pyramid's levels or an image (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from channel.catalogue import ChainStep
from channel.codecs import Codec, Tools, code_planes, code_rgb
from channel.distortions.base import Distortion, Planes
from channel.distortions.quantize import Quantize, requantize
from channel.streams import stream
from shared import bitstream
from shared.conditions import Condition
from shared.packing import stack, tile, unstack, untile


@dataclass(frozen=True)
class Sent:
    """What a chain made of the samples.

    Attributes:
        planes: as the receiver has them, by tensor name.
        bitstreams: what a codec made of them, by plane name; they cross the link in the samples' place.
        extension: of a file with such a bitstream.
        overhead_bits: what crosses besides, e.g. packet headers.
    """

    planes: dict[str, Planes]
    bitstreams: dict[str, bytes] = field(default_factory=dict)
    extension: str = ""
    overhead_bits: int = 0


_PIXEL_DEPTH = 8
"""Bits per sample of the images that codecs take."""


def first_depth(condition: Condition, steps: tuple[ChainStep, ...]) -> int:
    """Bits per sample that the floats are mapped to.

    A chain that begins with quantisation or a codec begins at its depth: mapping to 8 bits before would round twice.
    """
    first = steps[0]
    if isinstance(first, Quantize):
        return first.bits
    return _coded_depth(first, condition) if isinstance(first, Codec) else condition.bit_depth


def run(
    planes: Mapping[str, Planes],
    steps: tuple[ChainStep, ...],
    condition: Condition,
    seeds: Sequence[int],
    image: object,
    tools: Tools,
) -> Sent:
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
    """
    sent = Sent(dict(planes))
    for i, (step, seed) in enumerate(zip(steps, seeds, strict=True)):
        if isinstance(step, Codec):
            sent = _code(sent, step, condition, tools)
            continue
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
    if not (step.spatial and condition.layout == "tiled" and name != "image"):
        return step.apply(planes, rng)
    tiled = step.apply(replace(planes, samples=tile(planes.samples)[None]), rng)
    return replace(tiled, samples=untile(tiled.samples[0]))


def _code(sent: Sent, codec: Codec, condition: Condition, tools: Tools) -> Sent:
    planes = {name: _at_depth(part, _coded_depth(codec, condition)) for name, part in sent.planes.items()}
    if "image" in planes:
        coded = {"image": code_rgb(planes["image"].samples, codec, tools)}
        decoded = {"image": coded["image"].decoded}
    elif condition.packing == "stacked":
        levels = {name: part.samples for name, part in planes.items()}
        coded = {"pyramid": code_planes([stack(levels)], codec, tools=tools)[0]}
        decoded = unstack(coded["pyramid"].decoded, {name: level.shape for name, level in levels.items()})
    else:
        streams = code_planes([tile(part.samples) for part in planes.values()], codec, tools=tools)
        coded = dict(zip(planes, streams, strict=True))
        decoded = {name: untile(one.decoded) for name, one in coded.items()}
    received = {name: replace(part, samples=decoded[name]) for name, part in planes.items()}
    bitstreams = {name: one.bitstream for name, one in coded.items()}
    return replace(sent, planes=received, bitstreams=bitstreams, extension=codec.container)


def _coded_depth(codec: Codec, condition: Condition) -> int:
    return codec.bit_depth if condition.domain == "feature" else _PIXEL_DEPTH


def _at_depth(planes: Planes, bits: int) -> Planes:
    return replace(planes, samples=requantize(planes.samples, planes.bits, bits), bits=bits)
