"""Mutated frames against the reader and, if a URL is given, against a live channel or cloud.

    python -m benchmarks.fuzz_frames --count 1000000
    python -m benchmarks.fuzz_frames --count 10000 --url http://127.0.0.1:8003/v1/detect --edge http://127.0.0.1:8001

The reader may answer a frame, FrameError or ConditionError and nothing else, in bounded time; a service may answer
anything but a 5xx other than a clean 503. The last line is JSON; the exit code is 1 if something else was seen.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import resource
import sys
import time

import httpx
import numpy as np
import xxhash

from featlink.shared.conditions.language import Condition, Domain, StepSpec
from featlink.shared.errors import ConditionError, FrameError
from featlink.shared.features import FeatureSpec, Sizes, TensorSpec
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.starter.bundle import SCENES

_SIZES = Sizes((75, 110), (80, 112), (96, 128))
_SHAPES = {"p2": (24, 32), "p3": (12, 16), "p4": (6, 8), "p5": (3, 4), "p6": (2, 2)}
_ODD = (0, 1, 0x7F, 0x80, 0xC0, 0xDD, 0xDF, 0xFF)


def frames() -> list[bytes]:
    """Valid frames of each kind: floats, samples with ranges, an image; the last with its clean one behind it."""
    rng = np.random.default_rng(0)
    levels = tuple(Tensor(name, rng.random((4, *shape), np.float32)) for name, shape in _SHAPES.items())
    ranges = np.array([[0, 1]], np.float32)
    samples = tuple(Tensor(t.name, rng.integers(0, 16, t.data.shape, np.uint8), 4, ranges) for t in levels)
    image = (Tensor("image", rng.integers(0, 256, (3, *_SIZES.original), np.uint8)),)
    kinds: tuple[tuple[Domain, tuple[Tensor, ...]], ...] = (("feature", levels), ("feature", samples), ("image", image))
    spec = FeatureSpec(tuple(TensorSpec(f"p{k}", 4, 2**k) for k in range(2, 7)))
    written = []
    for domain, tensors in kinds:
        condition = Condition(domain=domain, steps=(StepSpec(type="quantize", params={"bits": 4}),), seed=3)
        meta = Meta(domain, "m", "w", _SIZES, image_id=7, key="k", condition=condition, features=spec)
        written.append(b"".join(bytes(part) for part in wire.write(Frame(meta, tensors))))
    return [*written, 2 * written[-1]]


def mutate(frame: bytes, chance: random.Random) -> bytes:
    """Flip, overwrite, cut, repeat or exchange some of a frame, most often of its first 600 bytes."""
    data = bytearray(frame)
    for _ in range(chance.randint(1, 6)):
        within = len(data) if chance.random() < 0.2 else min(len(data), 600)
        at = chance.randrange(max(within, 1))
        kind = chance.randrange(6)
        if not data:
            break
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at] = chance.choice(_ODD)
        elif kind == 2:
            data[at : at + 8] = chance.choice([b"\xff" * 8, bytes(8), chance.randbytes(8)])
        elif kind == 3:
            del data[at : at + chance.randrange(1, 200)]
        elif kind == 4:
            data[at:at] = data[at : at + chance.randrange(1, 100)]
        else:
            del data[at:]
    return bytes(data)


def repaired(data: bytes) -> bytes:
    """The same with the header's checksum made right, so that what it covers is looked at."""
    end = 24 + int.from_bytes(data[12:16], "little")
    return data[:16] + xxhash.xxh3_64_intdigest(data[24:end]).to_bytes(8, "little") + data[24:]


def real(edge: str) -> list[bytes]:
    """Frames that an edge makes of a scene: of features and of the image."""
    picture = (SCENES / "val" / "000000000001.jpg").read_bytes()
    with httpx.Client(base_url=edge, timeout=120, trust_env=False) as client:
        answers = [client.post("/v1/features", content=picture, params={"domain": d}) for d in ("feature", "image")]
    return [answer.raise_for_status().content for answer in answers]


def read(data: bytes) -> str:
    """What the reader makes of it."""
    try:
        wire.read_with_reference(bytearray(data), wire.Limits())
    except (FrameError, ConditionError) as error:
        return type(error).__name__
    except Exception as error:
        return f"!{type(error).__name__}: {error}"[:200]
    return "read"


def send(client: httpx.Client, url: str, data: bytes) -> str:
    """What a service makes of it."""
    try:
        response = client.post(url, content=data, headers={"content-type": wire.MEDIA_TYPE})
    except httpx.HTTPError as error:
        return f"!{type(error).__name__}"
    clean = response.headers.get("content-type") in ("application/problem+json", "application/json")
    fine = clean and (response.status_code < 500 or response.status_code == 503)
    return f"{'' if fine else '!'}{response.status_code}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url")
    parser.add_argument("--edge", help="base URL of an edge that makes the frames to damage, of the service's weights")
    given = parser.parse_args()
    chance, valid = random.Random(given.seed), real(given.edge) if given.edge else frames()
    seen: collections.Counter[str] = collections.Counter()
    slowest, started = 0.0, time.monotonic()
    memory = 0
    with httpx.Client(timeout=60, trust_env=False) as client:
        for number in range(given.count):
            data = mutate(chance.choice(valid), chance)
            if chance.random() < 0.5 and len(data) >= wire.PREFIX_BYTES:
                data = repaired(data)
            before = time.monotonic()
            seen[read(data) if given.url is None else send(client, given.url, data)] += 1
            slowest = max(slowest, time.monotonic() - before)
            if number == given.count // 10:
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) >> 10
    result = {"seen": dict(seen), "slowest_s": round(slowest, 3), "grown_MiB": grown}
    print(json.dumps({**result, "seconds": round(time.monotonic() - started)}))
    sys.exit(any(kind.startswith("!") for kind in seen))


if __name__ == "__main__":
    main()
