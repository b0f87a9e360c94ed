"""Mutated units and packets of Featlink's own codecs, and JPEG's stripes: they give samples or CodecError, in bounds.

    python -m benchmarks.fuzz_units --count 100000

So many mutants of each kind. The last line is JSON: for each kind the outcomes, the longest decoding, and by how much
the process has grown; the exit code is 1 if anything else was seen.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from featlink.channel.codecs.base import Codec, CodecError, PictureFormat, Tools, Units, code
from featlink.channel.codecs.entropy import Entropy
from featlink.channel.codecs.jpeg import Jpeg
from featlink.channel.packets import assemble, cut, protect

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
    smooth = cv2.GaussianBlur(rng.normal(size=(24, 32)), (0, 0), 3)
    image = np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    levels = np.stack([np.roll(image, i, 1) for i in range(16)])
    sparse = (512 + np.rint(rng.laplace(size=(64, 6, 8), scale=0.6)) * (np.arange(64) < 40)[:, None, None]).astype(
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


def fuzz(kind: Kind, count: int, seed: int = 0) -> dict[str, object]:
    """Decode so many mutants of a kind, and say what came of them."""
    rng, outcomes, slowest = np.random.default_rng(seed), Counter[str](), 0.0
    kind.decode(kind.parts)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        parts = mutated(kind.parts, rng)
        begun = time.perf_counter()
        try:
            kind.decode(parts)
            outcomes["decoded"] += 1
        except CodecError:
            outcomes["CodecError"] += 1
        except Exception as error:
            outcomes[f"{type(error).__name__}: {error}"[:120]] += 1
        slowest = max(slowest, 1e3 * (time.perf_counter() - begun))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    bad = outcomes.keys() - {"decoded", "CodecError"} or slowest > MOST_MS or grown > MOST_GROWTH_MB
    return {"kind": kind.name, **outcomes, "most_ms": round(slowest, 1), "grown_mb": round(grown, 1), "ok": not bad}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    args = parser.parse_args()
    found = []
    for kind in kinds():
        found.append(fuzz(kind, args.count))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    print(json.dumps(found))
    return 0 if all(one["ok"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
