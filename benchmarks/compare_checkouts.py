"""Do two checkouts give the same detections, bits and fidelity? A slice of every condition, on three engines.

Each checkout runs ``featlink bench`` with its own virtual environment; what both stored is compared image by image:
detections and bits to the letter, fidelity to the last digit. After a change that should change nothing::

    git worktree add ../before v0.2.0 && make -C ../before setup
    .venv/bin/python -m benchmarks.compare_checkouts ../before . --out out/compare
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CONDITIONS = (
    "feature: identity",
    "image: identity",
    *("gaussian_blur(sigma=1.5)", "image: gaussian_blur(sigma=3, window=5)", "gaussian_blur(sigma=1) @ layout=channel"),
    *("gaussian_noise(sigma=3)", "image: gaussian_noise(sigma=16)", "gaussian_noise(sigma=3) @ range=channel, seed=5"),
    *("resize(factor=4)", "image: resize(factor=2)", "resize(factor=2) @ layout=channel"),
    *("clip(sigmas=3)", "image: clip(sigmas=2)", "clip(sigmas=3) | quantize(bits=4)"),
    *("quantize(bits=4)", "image: quantize(bits=3)", "quantize(bits=12)", "quantize(bits=5) @ range=channel"),
    "quantize(bits=6) @ range=fixed, p2=-4:5, p3=-4:5, p4=-4:5, p5=-4:5",
    *("monotone(gamma=1.5)", "image: monotone(gamma=0.7)", "rank_shuffle(span=1000)", "image: rank_shuffle(span=100)"),
    *("bit_error(ber=0.001)", "image: bit_error(ber=0.01)", "quantize(bits=4) | bit_error(ber=0.001)"),
    *("packet_loss(rate=0.1, burst=3)", "packet_loss(rate=0.1, conceal=mean)", "image: packet_loss(rate=0.05)"),
    *("vvenc(qp=40)", "vvenc(qp=38, bit_depth=10)", "image: vvenc(qp=37)", "image: vvenc(qp=40) @ at=original"),
    *("hevc(qp=40)", "image: hevc(qp=32)", "av1(qp=50)", "image: av1(qp=40)"),
    *("jpeg(quality=20)", "image: jpeg(quality=30)", "jpeg(quality=50) @ packing=stacked"),
    *("quantize(bits=4) | entropy", "image: quantize(bits=4) | entropy", "entropy"),
    *("pca(components=128)", "pca(components=64) | jpeg(quality=60)"),
    "pca(components=1024, step=3) | entropy @ bit_depth=10",
    *("bottleneck(step=2.8) | entropy @ bit_depth=10", "bottleneck(step=9.5) | entropy @ bit_depth=10", "bottleneck"),
    "gaussian_blur(sigma=1) | gaussian_noise(sigma=2) | quantize(bits=5)",
    "image: gaussian_noise(sigma=8) | jpeg(quality=40) @ at=original",
)
"""Both domains, every step, and every option of a condition."""

ENGINES = ("local", "http", "ray")


class Stored(NamedTuple):
    """What a sweep stored for one image under one condition."""

    detections: str
    bits: int
    fidelity: dict[str, float | None]


class Difference(NamedTuple):
    """What differs, and where."""

    engine: str
    condition: str
    image_id: int
    what: str


def main() -> None:
    """Run both, compare, exit 1 if anything differs."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("before", type=Path, help="a checkout with a .venv")
    parser.add_argument("after", type=Path, help="another")
    parser.add_argument("--out", type=Path, default=Path("out/compare"))
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--bench", nargs=argparse.REMAINDER, default=[], help="further options of featlink bench")
    args = parser.parse_args()
    differences: list[Difference] = []
    for engine in args.engines:
        folders = [args.out.resolve() / name / engine for name in ("before", "after")]
        for checkout, folder in zip((args.before, args.after), folders, strict=True):
            _sweep(checkout.resolve(), folder, engine, args.scenes, args.bench)
        before, after = (dict(_stored(folder)) for folder in folders)
        differences += _differences(engine, before, after)
        print(f"{engine}: {len(after)} results, {len(before)} before")
    for difference in differences:
        print(*difference, sep=" · ")
    print("the same" if not differences else f"{len(differences)} differences")
    sys.exit(bool(differences))


def _sweep(checkout: Path, folder: Path, engine: str, scenes: int, more: list[str]) -> None:
    """Run, or go on with, one checkout's sweep."""
    command = [str(checkout / ".venv/bin/python"), "-m", "featlink", "bench", "--engine", engine, "--out", str(folder)]
    command += ["--limit", str(scenes), "--seeds", "0,1"]
    command += [word for condition in CONDITIONS for word in ("--conditions", condition)] + more
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{engine}.log").open("w") as log:
        subprocess.run(command, cwd=checkout, env=environment, stdout=log, stderr=log, check=True)


def _stored(folder: Path) -> Iterator[tuple[tuple[str, int], Stored]]:
    """Results by run name and image id."""
    query = "SELECT runs.name, image_id, detections, bits, fidelity FROM results JOIN runs ON runs.id = results.run_id"
    with contextlib.closing(sqlite3.connect(folder / "runs.sqlite")) as database:
        for name, image_id, detections, bits, fidelity in database.execute(query):
            yield (name, image_id), Stored(_text(detections), bits, json.loads(fidelity))


def _text(detections: bytes | str) -> str:
    """The detections as JSON, however they are compressed."""
    if isinstance(detections, bytes) and detections[:1] != b"[":
        detections = zlib.decompress(detections)
    return detections.decode() if isinstance(detections, bytes) else detections


def _differences(
    engine: str, before: dict[tuple[str, int], Stored], after: dict[tuple[str, int], Stored]
) -> Iterator[Difference]:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            yield Difference(engine, *key, "only one has it")
            continue
        if old.detections != new.detections:
            yield Difference(engine, *key, "other detections")
        if old.bits != new.bits:
            yield Difference(engine, *key, f"{old.bits} bits before, {new.bits} after")
        for name in sorted(old.fidelity.keys() | new.fidelity.keys()):
            if old.fidelity.get(name) != new.fidelity.get(name):
                yield Difference(
                    engine, *key, f"{name} {old.fidelity.get(name)} before, {new.fidelity.get(name)} after"
                )


if __name__ == "__main__":
    main()
