"""How large and how crowded a COCO data set's objects are, to compare made scenes with photos.

    python -m benchmarks.scene_statistics starter/data/starter/annotations/instances_val.json FILE...

One line of a Markdown table for each file. Crowds are left out.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask

SMALL, LARGE = 32**2, 96**2
"""COCO's bounds of areas, in pixels."""
COVERED = 0.2
"""An object counts as crowded when another one's box covers this share of its box."""


def statistics(dataset: dict[str, Any]) -> list[str]:
    """One value per column of :func:`main`'s table."""
    images = {image["id"]: image for image in dataset["images"]}
    objects = defaultdict(list)
    for annotation in dataset["annotations"]:
        if not annotation["iscrowd"]:
            objects[annotation["image_id"]].append(annotation)
    areas, touching, crowded, filled = [], [], [], []
    for image_id, own in objects.items():
        width, height = images[image_id]["width"], images[image_id]["height"]
        boxes = np.array([one["bbox"] for one in own])
        ends = boxes[:, :2] + boxes[:, 2:]
        touching += list((boxes[:, :2] <= 2).any(1) | (ends >= np.array([width, height]) - 2).any(1))
        # With a "crowd" as the second box, pycocotools divides by the first one's area.
        covered = mask.iou(boxes, boxes, np.ones(len(boxes)))
        np.fill_diagonal(covered, 0)
        crowded += list(covered.max(1) >= COVERED)
        areas += [one["area"] for one in own]
        filled.append(boxes[:, 2:].prod(1).sum() / (width * height))
    sizes = np.digitize(areas, [SMALL, LARGE])
    return [
        f"{len(areas) / len(objects):.1f}",
        " / ".join(f"{share:.2f}" for share in np.bincount(sizes, minlength=3) / len(sizes)),
        f"{np.mean(touching):.2f}",
        f"{np.mean(crowded):.2f}",
        f"{np.mean(filled):.2f}",
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="COCO annotations")
    print("| file | objects a picture | small / medium / large | at the border | crowded | boxes' area to picture's |")
    print("|---|---|---|---|---|---|")
    for path in parser.parse_args().files:
        print(f"| {path.name} | {' | '.join(statistics(json.loads(path.read_bytes())))} |")


if __name__ == "__main__":
    main()
