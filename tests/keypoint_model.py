"""A split model that finds one red figure in a picture, with its 17 keypoints; pictures of such, and their truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

import featlink as fl

PEOPLE = f"{__file__}:build"
CELL = 8
PLACES = np.stack([np.linspace(0.1, 0.9, 17), np.linspace(0.9, 0.1, 17) ** 2], axis=1)
"""Of the keypoints in the box, in its sides."""


class People(fl.SplitModel):
    """Means of 8×8 pixels cross; where they are red, there is somebody."""

    name, weights, categories = "people", "0000000000009e01", ("background", "person")
    spec = fl.FeatureSpec((fl.TensorSpec("means", 3, CELL),), divisor=2 * CELL)

    def encode_input(self, pixels: fl.Array, sizes: fl.Sizes) -> fl.FeatureMaps:
        padded = np.zeros((3, *sizes.padded), np.float32)
        padded[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        _, height, width = padded.shape
        cells = padded.reshape(3, height // CELL, CELL, width // CELL, CELL).mean((2, 4))
        return fl.FeatureMaps({"means": np.ascontiguousarray(cells)}, sizes)

    def decode(self, features: fl.FeatureMaps) -> fl.Detections:
        red, green, _ = features.levels["means"]
        rows, columns = np.nonzero(red - green > 60)
        if not len(rows):
            rows = columns = np.zeros(1, int)
        left, top, right, bottom = (
            CELL * side for side in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        )
        points = np.column_stack([PLACES * [right - left, bottom - top] + [left, top], np.ones(17)])
        box = np.array([[left, top, right, bottom]], np.float32)
        score, label = np.array([0.9], np.float32), np.array([1])
        return fl.Detections(box, score, label, None, self.categories, points[None].astype(np.float32))


def build(config: fl.ModelConfig, heads: bool = True) -> People:
    return People()


def draw_people(folder: Path, count: int = 3) -> Path:
    """Write pictures of one person each in COCO's layout; the data set's folder."""
    rng = np.random.default_rng(0)
    pictures = folder / "val"
    pictures.mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        canvas = np.full((96, 128, 3), 90, np.uint8)
        left, top, width, height = (CELL * rng.integers([1, 1, 4, 4], [6, 4, 8, 7])).tolist()
        canvas[top : top + height, left : left + width] = (230, 60, 60)
        Image.fromarray(canvas).save(pictures / f"{number}.png")
        points = np.column_stack([PLACES * [width, height] + [left, top], np.full(17, 2)])
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
                "keypoints": points.ravel().tolist(),
                "num_keypoints": 17,
            }
        )
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    return folder
