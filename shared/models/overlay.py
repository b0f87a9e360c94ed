"""Draw detections on their picture."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from featlink.shared.features import Image

_LIMBS = (
    *((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10)),
    *((5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)),
)
"""Pairs of COCO's keypoints that are joined."""


def draw(
    image: Image, detections: Iterable[Mapping[str, Any]], names: Mapping[str, str], threshold: float = 0.5
) -> bytes:
    """:func:`paint`, as a PNG file's bytes."""
    canvas = paint(image, detections, names, threshold)
    return bytes(cv2.imencode(".png", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))[1])


def paint(
    image: Image, detections: Iterable[Mapping[str, Any]], names: Mapping[str, str], threshold: float = 0.5
) -> Image:
    """Draw masks, boxes, names, scores and keypoints.

    Args:
        image: uint8 RGB (H, W, 3).
        detections: in COCO's results format, boxes and masks in the image's pixels.
        names: category id, as text, to name.
        threshold: leave detections with lower scores out.

    Returns:
        A new picture, uint8 RGB (H, W, 3).
    """
    from pycocotools import mask as rle  # an edge that is asked for no overlay does without

    canvas = image.copy()
    shown = sorted((d for d in detections if d["score"] >= threshold), key=lambda d: float(d["score"]))
    for detection in shown:
        if "segmentation" in detection:
            _tint(canvas, rle.decode(detection["segmentation"]).astype(bool), _colour(detection["category_id"]))
    for detection in shown:
        identity = detection["category_id"]
        _box(
            canvas,
            detection["bbox"],
            f"{names.get(str(identity), identity)} {detection['score']:.2f}",
            _colour(identity),
        )
        _person(canvas, detection.get("keypoints", ()), _colour(identity))
    return canvas


def _colour(category: int) -> tuple[int, int, int]:
    """A colour per category; the golden ratio keeps neighbours apart."""
    red, green, blue = colorsys.hsv_to_rgb(category * 0.618034 % 1, 0.75, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def _tint(canvas: Image, mask: npt.NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    canvas[mask] = (canvas[mask] * 0.5 + np.array(colour) * 0.5).astype(np.uint8)
    outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outline, -1, colour, 1)


def _person(canvas: Image, keypoints: Sequence[float], colour: tuple[int, int, int]) -> None:
    points = [(round(x), round(y)) for x, y in zip(keypoints[0::3], keypoints[1::3], strict=True)]
    for one, other in _LIMBS if points else ():
        cv2.line(canvas, points[one], points[other], colour, 1, cv2.LINE_AA)
    for point in points:
        cv2.circle(canvas, point, 2, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)


def _box(canvas: Image, bbox: list[float], label: str, colour: tuple[int, int, int]) -> None:
    x, y, width, height = (round(side) for side in bbox)
    cv2.rectangle(canvas, (x, y), (x + width, y + height), colour, 1, cv2.LINE_AA)
    (text_width, text_height), base = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    # Inside the picture also for a box at its upper or right edge.
    top = max(y, text_height + base)
    left = max(0, min(x, canvas.shape[1] - text_width - 1))
    cv2.rectangle(canvas, (left, top - text_height - base), (left + text_width, top), colour, cv2.FILLED)
    cv2.putText(canvas, label, (left, top - base), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
