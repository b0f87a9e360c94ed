"""Small data sets with detections made of their own ground truth, for whatever scores them."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
from hypothesis import strategies as st
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from featlink.shared.models.rle import run_lengths
from featlink.shared.result import Detection, DetectionMask

Json = dict[str, Any]


def index(data: Json) -> COCO:
    truth = COCO()
    truth.dataset = copy.deepcopy(data)
    truth.createIndex()
    return truth


def jittered(data: Json, seed: int, copies: int, score_steps: int) -> list[Detection]:
    """Detections made of the ground truth: some missed, some doubled, displaced, of a wrong category, tied in score."""
    rng = np.random.default_rng(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = index(data)
    categories = [category["id"] for category in data["categories"]]
    detections: list[Detection] = []
    for one in data["annotations"]:
        rle = truth.annToRLE(one)
        height, width = rle["size"]
        runs = run_lengths(rle["counts"] if isinstance(rle["counts"], str) else rle["counts"].decode())
        original = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs).reshape(width, height).T
        for _ in range(copies):
            if rng.random() < 0.15:
                continue
            mask = np.roll(original, rng.integers(-2, 3, size=2), axis=(0, 1))
            if rng.random() < 0.5:
                mask = mask | np.roll(mask, 1, axis=0) | np.roll(mask, 1, axis=1)  # dilated
            rle = mask_api.encode(np.asfortranarray(mask))
            x, y, w, h = one["bbox"]
            box = np.array([x + rng.normal(0, w / 25), y + rng.normal(0, h / 25), w, h])
            box[2:] *= rng.uniform(0.9, 1.1, size=2)
            wrong = rng.random() < 0.1
            detections.append(
                {
                    "image_id": one["image_id"],
                    "category_id": int(rng.choice(categories)) if wrong else one["category_id"],
                    "bbox": box.astype(np.float32).tolist(),
                    "score": float(np.float32(rng.integers(1, score_steps + 1) / score_steps)),
                    "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
                }
            )
    return [detections[i] for i in rng.permutation(len(detections))]


def small_data_set() -> Json:
    """Twelve images with polygons and both kinds of RLE, objects of all sizes, crowds, ids in no order."""
    rng = np.random.default_rng(0)
    images = [{"id": int(i), "width": int(w), "height": int(h)} for i, w, h in _sizes(rng)]
    annotations: list[Json] = []
    for image in images[:-1]:  # one image has no object
        for _ in range(rng.integers(1, 9)):
            size = np.exp(rng.uniform(np.log(6), np.log(180), size=2))
            w, h = np.minimum(size, [image["width"] - 2, image["height"] - 2]).tolist()
            x, y = rng.uniform(0, image["width"] - w), rng.uniform(0, image["height"] - h)
            polygon = [x, y, x + w, y, x + w, y + h, x + w / 2, y + h * 0.8, x, y + h]
            rle = mask_api.merge(mask_api.frPyObjects([polygon], image["height"], image["width"]))
            annotation: Json = {
                "id": 1000 - len(annotations),
                "image_id": image["id"],
                "category_id": int(rng.choice([7, 2, 90])),
                "bbox": [x, y, w, h],
                "area": float(mask_api.area(rle)),
                "iscrowd": int(rng.random() < 0.15),
                "segmentation": [polygon],
            }
            if annotation["iscrowd"]:
                text = {"size": rle["size"], "counts": rle["counts"].decode()}
                runs = {"size": rle["size"], "counts": run_lengths(text["counts"])}
                annotation["segmentation"] = text if rng.random() < 0.5 else runs
            annotations.append(annotation)
    categories = [{"id": 90}, {"id": 2}, {"id": 7}, {"id": 50}]  # 50 has no object
    return {"images": images, "categories": categories, "annotations": annotations}


def _sizes(rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([rng.permutation(100)[:12] + 1, rng.integers(100, 300, size=(12, 2))])


def image_ids(data: Json) -> list[int]:
    return [image["id"] for image in data["images"]]


Placed = tuple[int, int, list[int]]
"""Image, category, and box of a rectangle."""


def rectangles(objects: list[tuple[Placed, int]], found: list[tuple[Placed, float]]) -> tuple[Json, list[Detection]]:
    """Two images of 120 × 100 with rectangular objects (and iscrowd), and detections (and score)."""
    data: Json = {
        "images": [{"id": 2, "width": 120, "height": 100}, {"id": 1, "width": 120, "height": 100}],
        "categories": [{"id": 2}, {"id": 1}],
        "annotations": [
            {
                "id": 1 + number,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": crowd,
                "segmentation": [outline(box)],
            }
            for number, ((image, category, box), crowd) in enumerate(objects)
        ],
    }
    detections: list[Detection] = []
    for (image, category, box), score in found:
        rle = mask_api.frPyObjects([outline(box)], 100, 120)[0]
        segmentation: DetectionMask = {"size": rle["size"], "counts": rle["counts"].decode()}
        detections.append(
            {
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "score": score,
                "segmentation": segmentation,
            }
        )
    return data, detections


def outline(box: list[int]) -> list[int]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


sides = st.sampled_from([16, 32, 96, 100])
boxes = st.tuples(st.sampled_from([0, 8, 16]), st.just(0), sides, sides).map(list)
places = st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 2]), boxes)
