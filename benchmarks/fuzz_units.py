"""Mutated units, packets and streams of Featlink's own codecs, and JPEG's stripes: samples or CodecError, in bounds.

    python -m benchmarks.fuzz_units --count 100000 --kinds pca "bottleneck, predicted"

So many mutants of each kind; default: of all. Streams are three frames in packets with parity, of which a receiver
makes components: what cannot be decoded passes for lost. The last line is JSON: for each kind the outcomes, the longest
decoding in processor time, and by how much the process has grown; the exit code is 1 if anything else was seen.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from featlink.channel.chain import Chain, floats
from featlink.channel.codecs.base import Codec, CodecError, PictureFormat, Tools, Units, code
from featlink.channel.codecs.entropy import Entropy
from featlink.channel.codecs.jpeg import Jpeg
from featlink.channel.packets import assemble, cut, protect
from featlink.channel.reduction.base import PredictingReduction
from featlink.channel.reduction.motion import HEAD, Prediction, Receiver, Sent
from featlink.channel.reduction.pca import FORMAT
from featlink.shared import fitted
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.features import Array
from featlink.shared.fpn import FPN
from featlink.shared.frames.wire import LATENT
from featlink.starter.bundle import DATA

STREAMS = {
    "pca": "pca(components=32, step=2) | entropy(stripes=2) @ bit_depth=10",
    "bottleneck": "bottleneck(step=4) | entropy(stripes=2) @ bit_depth=10",
    "pca, predicted": "pca(components=32, step=2, gop=low_delay) | entropy(stripes=2) @ bit_depth=10",
    "bottleneck, predicted": "bottleneck(step=4, gop=low_delay) | entropy(stripes=2) @ bit_depth=10",
}
"""Conditions by kind."""
FRAMES, SIDE = 3, 64
MOST_MS = 2000
MOST_GROWTH_MB = 200


@dataclass(frozen=True)
class Kind:
    """What is mutated.

    Attributes:
        name: of it.
        parts: the undamaged units or packets.
        decode: takes such parts; samples or units.
    """

    name: str
    parts: Units
    decode: Callable[[Units], object]


def kinds() -> Iterator[Kind]:
    """Dense and sparse samples of several depths, whole and in stripes, an image's stripes, and packets."""
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.normal(size=(12, 16)), (0, 0), 2)
    image = np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    levels = np.stack([np.roll(image, i, 1) for i in range(8)])
    sparse = (512 + np.rint(rng.laplace(size=(32, 6, 8), scale=0.6)) * (np.arange(32) < 20)[:, None, None]).astype(
        np.uint16
    )
    for name, codec, samples, bits in (
        ("dense", Entropy(), levels, 8),
        ("dense, 4 bits, stripes", Entropy(stripes=4), levels >> 4, 4),
        ("sparse", Entropy(), sparse, 10),
        ("sparse, stripes", Entropy(stripes=3), sparse, 10),
        ("jpeg, stripes", Jpeg(stripes=3, quality=40), np.stack([image] * 3), 8),
    ):
        shape = (samples.shape[0], samples.shape[1], samples.shape[2])
        yield Kind(
            name, _units(codec, samples, PictureFormat(shape, bits)), _decoder(codec, PictureFormat(shape, bits))
        )
    units = [rng.bytes(size) for size in (300, 900, 40)]
    packets = tuple(packet.data for packet in protect(cut(units, 200), 0.5))
    yield Kind("packets", packets, lambda parts: assemble(parts, len(units)))
    for name, text in STREAMS.items():
        yield _stream(name, text, rng)


def _units(codec: Codec, samples: np.ndarray, form: PictureFormat) -> Units:
    if form.bits in (8, 16) and codec.tiles:
        return code(samples, codec).coded.units
    (coded,) = codec.open_encoder(form, Tools()).push(samples)
    return coded.units


def _decoder(codec: Codec, form: PictureFormat) -> Callable[[Units], object]:
    def decode(units: Units) -> object:
        (samples,) = codec.open_decoder(form, Tools()).push(units)
        if samples.shape != form.shape or int(samples.max()) >> form.bits:
            raise ValueError(f"{samples.dtype} {samples.shape}")
        return samples

    return decode


def _stream(name: str, text: str, rng: np.random.Generator) -> Kind:
    """A few frames of levels of the bundled detector's sizes and strength, at its smallest input."""
    condition = parse(text)
    reduction, codec = chain(condition)
    assert isinstance(reduction, PredictingReduction)
    assert isinstance(codec, Codec)
    _, facts = fitted.read(DATA / "pca.safetensors", FORMAT, "")
    key = fitted.key(facts["weights"], FPN)
    first, change = ({f"p{k}": 3 * rng.normal(size=(256, SIDE >> k, SIDE >> k)) for k in range(2, 6)} for _ in range(2))
    frames = [{n: (first[n] + i * change[n] / 2).astype(np.float32) for n in first} for i in range(FRAMES)]
    with Chain([reduction, codec], condition, weights=facts["weights"]) as sender:
        sent = [out for i, levels in enumerate(frames) for out in sender.push(i, FPN.complete(levels))]
    units = [out.coded[LATENT].coded.units for out in sent]
    packets = [[packet.data for packet in protect(cut(of_frame, 200), 0.5, i)] for i, of_frame in enumerate(units)]
    edges = np.cumsum([0, *map(len, packets)]).tolist()

    def decode(parts: Units) -> list[Array]:
        basis, step = reduction.predicted_in(key)
        receiver = Receiver(Prediction(basis, step))
        components = []
        for number, (out, (top, end)) in enumerate(zip(sent, pairwise(edges), strict=True)):
            whole = out.planes[LATENT]
            form = PictureFormat(whole.samples.shape, whole.bits)
            try:
                (samples,) = codec.open_decoder(form, Tools()).push(tuple(assemble(parts[top:end], len(units[number]))))
            except CodecError:
                continue
            values = floats(replace(whole, samples=samples))
            if reduction.prediction_period > 1:
                steps = np.rint(values / np.float32(step)).astype(np.int32)
                values = receiver.push(Sent(steps[:HEAD], steps[HEAD:]), out.key)
            components.append(values)
        if not all(np.isfinite(values).all() for values in components):
            raise ValueError("components are not finite")
        return components

    return Kind(name, tuple(data for of_frame in packets for data in of_frame), decode)


def mutated(parts: Units, rng: np.random.Generator) -> Units:
    """Overwrite, cut, lengthen, exchange or lose some of the parts."""
    out = [bytearray(part) for part in parts]
    for _ in range(int(rng.integers(1, 8))):
        at = int(rng.integers(len(out)))
        part, what = out[at], int(rng.integers(8))
        if what < 4 and part:
            part[int(rng.integers(len(part)))] = int(rng.integers(256))
        elif what == 4:
            del part[int(rng.integers(len(part) + 1)) :]
        elif what == 5:
            part.extend(rng.bytes(int(rng.integers(1, 64))))
        elif what == 6:
            out[at] = bytearray(rng.bytes(len(part)))
        else:
            other = int(rng.integers(len(out)))
            out[at], out[other] = out[other], out[at]
    return tuple(map(bytes, out))


def fuzz(kind: Kind, count: int, seed: int) -> dict[str, object]:
    """Decode so many mutants of a kind, and say what came of them."""
    rng, outcomes, slowest = np.random.default_rng(seed), Counter[str](), 0.0
    kind.decode(kind.parts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        parts = mutated(kind.parts, rng)
        begun = time.process_time()
        try:
            kind.decode(parts)
            outcomes["decoded"] += 1
        except CodecError:
            outcomes["CodecError"] += 1
        except Exception as error:
            outcomes[f"{type(error).__name__}: {error}"[:120]] += 1
        slowest = max(slowest, 1e3 * (time.process_time() - begun))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    bad = outcomes.keys() - {"decoded", "CodecError"} or slowest > MOST_MS or grown > MOST_GROWTH_MB
    return {"kind": kind.name, **outcomes, "most_ms": round(slowest, 1), "grown_mb": round(grown, 1), "ok": not bad}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="of the mutants")
    parser.add_argument("--kinds", nargs="+", help="names; default: all")
    args = parser.parse_args()
    found = []
    for kind in kinds():
        if args.kinds and kind.name not in args.kinds:
            continue
        found.append(fuzz(kind, args.count, args.seed))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    print(json.dumps(found))
    return 0 if all(one["ok"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
