"""How often a 95 % bootstrap interval of few scenes holds the figure of many; docs/measurements.md has the result.

    featlink scenes --n 1280 --seed 77 --out scenes
    python -m benchmarks.interval_coverage detect --scenes scenes --out found     # resumable; --shard 0/2, 1/2 for two
    python -m benchmarks.interval_coverage cover --scenes scenes --out found

Detections are of the bundled weights, from clean features and from features of 2 bits. ``cover`` cuts the scenes into
disjoint sets of 32 and asks in how many the interval of AP, and of the paired difference, holds the pooled value.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.progress import track

import featlink as fl
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco_metrics import match, pools
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.evaluation.confidence_intervals import DRAWS, draw_images, interval

CONDITION = "quantize(bits=2)"
NAMES = ("clean", "distorted")


def detect(args: argparse.Namespace) -> None:
    """One JSON file a scene."""
    args.out.mkdir(parents=True, exist_ok=True)
    model = fl.load("starter", threads=1)
    first, step = map(int, args.shard.split("/"))
    images = list(fl.open_dataset(args.scenes).images.items())[first::step]
    for image_id, path in track(images):
        target = args.out / f"{image_id}.json"
        if target.exists():
            continue
        clean = model.pyramid(fl.read_image(path))
        sent = fl.transmit(clean, CONDITION, image_id=image_id, fidelity=False)
        found = {
            name: to_coco(model.detect(signal), image_id) for name, signal in zip(NAMES, (clean, sent), strict=True)
        }
        target.write_text(json.dumps(found))


def cover(args: argparse.Namespace) -> None:
    """The shares of the sets whose interval holds the pooled value."""
    truth = coco.parse(fl.open_dataset(args.scenes).annotations.read_bytes())
    found = {int(path.stem): json.loads(path.read_bytes()) for path in args.out.glob("*.json")}
    ids = sorted(found)[: len(found) // args.size * args.size]
    sets = [ids[at : at + args.size] for at in range(0, len(ids), args.size)]
    draws = draw_images(args.size, DRAWS)
    print(f"{len(sets)} sets of {args.size} scenes, {DRAWS} draws\n")
    print("| figure | pooled | mean width of the interval | sets whose interval holds the pooled value |")
    print("|---|--:|--:|--:|")
    for kind in ("segm", "bbox"):
        pooled, drawn = {}, {}
        for name in NAMES:
            detections = [one for image in ids for one in found[image][name]]
            whole = pools(match(truth, detections, ids))[kind]
            pooled[name] = whole.average_precision(np.ones(len(ids), int))
            drawn[name] = []
            for part in sets:
                detections = [one for image in part for one in found[image][name]]
                drawn[name].append(pools(match(truth, detections, part))[kind].draws(draws))
        values = {f"{kind} AP, {name}": (pooled[name], drawn[name]) for name in NAMES}
        change = [b - a for a, b in zip(drawn["clean"], drawn["distorted"], strict=True)]
        values[f"{kind} AP, distorted less clean"] = (pooled["distorted"] - pooled["clean"], change)  # type: ignore[operator]
        ratio = [b / a for a, b in zip(drawn["clean"], drawn["distorted"], strict=True)]
        values[f"{kind} retention"] = (pooled["distorted"] / pooled["clean"], ratio)  # type: ignore[operator]
        for title, (value, of_sets) in values.items():
            ends = [both for one in of_sets if (both := interval(one))]
            held = sum(low <= value <= high for low, high in ends)
            width = np.mean([high - low for low, high in ends])
            print(f"| {title} | {100 * value:.1f} | {100 * width:.1f} | {held} of {len(sets)} |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("detect", "cover"))
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--size", type=int, default=32)
    args = parser.parse_args()
    {"detect": detect, "cover": cover}[args.what](args)


if __name__ == "__main__":
    main()
