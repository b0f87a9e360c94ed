"""What a profile costs and how far its detections are from the exact one's.

    python -m benchmarks.profiles --limit 8                            # the bundled detector on bundled scenes
    python -m benchmarks.dense_weights dense.safetensors
    python -m benchmarks.profiles --weights dense.safetensors --min-size 800 --max-size 1333 --limit 8

Every picture goes through all profiles in turn. A detection of the exact profile with a score of at least 0.1 is
compared with the one of its label that overlaps it most: largest difference of a coordinate in pixels of the picture,
difference of the score. One without an overlap of 0.5 counts as missed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from featlink.dataset import MAX_PIXELS, ground_truth, open_dataset
from featlink.shared.evaluation.coco_metrics import evaluate
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.torchvision_rcnn import build
from featlink.shared.pictures import decode

SCORE = 0.1
OVERLAP = 0.5


def differences(expected: Detections, found: Detections) -> tuple[list[float], list[float], int]:
    """Of boxes in pixels, of scores, and how many detections were missed."""
    pixels, scores, missed = [], [], 0
    overlaps = box_iou(torch.from_numpy(expected.boxes), torch.from_numpy(found.boxes)).numpy()
    overlaps *= expected.labels[:, None] == found.labels
    for i in np.flatnonzero(expected.scores >= SCORE):
        j = int(overlaps[i].argmax()) if len(found) else -1
        if j < 0 or overlaps[i, j] < OVERLAP:
            missed += 1
            continue
        pixels.append(float(np.abs(expected.boxes[i] - found.boxes[j]).max()))
        scores.append(float(abs(expected.scores[i] - found.scores[j])))
    return pixels, scores, missed


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--dataset", type=Path, default=Path("starter"))
    parser.add_argument("--profiles", nargs="+", default=["fast", "bf16"], help="beside the exact one")
    parser.add_argument("--min-size", type=int)
    parser.add_argument("--max-size", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()

    options: dict[str, Any] = {"weights": args.weights, "min_size": args.min_size, "max_size": args.max_size}
    profiles = ["exact", *args.profiles]
    models = {one: build(ModelConfig(**options, profile=one, threads=args.threads)) for one in profiles}
    data = open_dataset(args.dataset)
    truth, _ = ground_truth(data)
    images = dict(list(data.images.items())[: args.limit])
    taken: dict[str, dict[str, list[float]]] = {one: defaultdict(list) for one in profiles}
    results: dict[str, list[Any]] = {one: [] for one in profiles}
    pixels, scores, missed = (defaultdict(list) for _ in range(3))
    for number, (image_id, path) in enumerate(images.items()):
        image = decode(path.read_bytes(), MAX_PIXELS)
        for profile, model in models.items():
            if number == 0:
                model.detect_image(image)
            started, cpu = time.perf_counter(), time.process_time()
            pyramid = model.encode(image)
            between, cpu_between = time.perf_counter(), time.process_time()
            found = model.decode(pyramid)
            taken[profile]["pyramid"].append(between - started)
            taken[profile]["pyramid, CPU"].append(cpu_between - cpu)
            taken[profile]["detect"].append(time.perf_counter() - between)
            taken[profile]["detect, CPU"].append(time.process_time() - cpu_between)
            results[profile] += to_coco(found, image_id)
            if profile == "exact":
                expected = found
                continue
            of_boxes, of_scores, without = differences(expected, found)
            pixels[profile] += of_boxes
            scores[profile] += of_scores
            missed[profile].append(without)
    report: dict[str, Any] = {"images": len(images), "threads": args.threads}
    for profile in profiles:
        ap = evaluate(truth, results[profile], list(images))
        one: dict[str, Any] = {"ms": {k: round(1e3 * statistics.median(v), 1) for k, v in taken[profile].items()}}
        one["AP"] = {"bbox": ap.bbox["AP"], "segm": None if ap.segm is None else ap.segm["AP"]}
        if pixels[profile]:
            one |= {"compared": len(pixels[profile]), "missed": sum(missed[profile])}
            for name, values in (("pixels", pixels[profile]), ("score", scores[profile])):
                at = {"median": 50, "95 %": 95, "max": 100}
                one[name] = {key: float(f"{np.percentile(values, share):.3g}") for key, share in at.items()}
        report[profile] = one
        print(profile, one, flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
