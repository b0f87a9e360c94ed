"""Detections in COCO's results format: convert them from a model's arrays, and use them as ground truth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pycocotools import mask as mask_api

from featlink.shared.compiled import numba
from featlink.shared.evaluation.coco import Annotation, Category, GroundTruth, Rle
from featlink.shared.models.detections import Detections, MaskPart, PartialMasks, Runs
from featlink.shared.models.rle import runs_of_part
from featlink.shared.result import Detection, DetectionMask

THRESHOLD = 0.5
"""Detections with lower scores are no objects; as with real objects, finding them is then a false alarm."""
_MOST = 13
"""Characters that a number of 64 bits takes, five of them each."""


def to_coco(detections: Detections, image_id: int | None) -> list[Detection]:
    """Detections as COCO results.

    Args:
        detections: of one image.
        image_id: its id, if it has one.

    Returns:
        One dict per detection: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height), ``score`` and, for
        models with them, ``segmentation`` (compressed RLE) and ``keypoints``. Width and height are taken in float64, so
        x + width is the float32 corner again, exactly.
    """
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    results: list[Detection] = [
        {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
        for box, score, label in zip(
            boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
        )
    ]
    if (masks := detections.masks) is not None:
        for index, result in enumerate(results):
            if isinstance(masks, PartialMasks):
                result["segmentation"] = compressed(masks.runs(index), masks.size)
            else:
                height, width = masks[index].shape
                part = MaskPart(masks[index], 0, 0, (height, width))
                result["segmentation"] = compressed(runs_of_part(part), (height, width))
    if detections.keypoints is not None:
        for result, points in zip(results, detections.keypoints.astype(np.float64), strict=True):
            result["keypoints"] = points.ravel().tolist()
    return results


def compressed(runs: Runs, size: tuple[int, int]) -> DetectionMask:
    """Compress a mask's runs; the result is pycocotools' own, to the last character.

    Args:
        runs: of the mask.
        size: the image's (height, width).

    Returns:
        Compressed RLE.

    Example:
        >>> compressed(np.array([4, 2, 3]), (3, 3))
        {'size': [3, 3], 'counts': '423'}
    """
    return {"size": list(size), "counts": _characters(runs).tobytes().decode("ascii")}


@numba.njit(nogil=True, cache=True)
def _characters(runs):  # type: ignore[no-untyped-def]  # pragma: no cover
    """``rleToString`` of pycocotools' ``maskApi.c``: five bits a character, the lowest first, and a sixth for "more".

    From the fourth on, a run is told by how much it is longer than the one before the last.
    """
    text = np.empty(_MOST * len(runs), np.uint8)
    at = 0
    for k in range(len(runs)):
        number = runs[k] - runs[k - 2] if k > 2 else runs[k]
        more = True
        while more:
            group = number & 31
            number >>= 5
            more = number != (-1 if group & 16 else 0)
            text[at] = 48 + (group | 32 if more else group)
            at += 1
    return text[:at]


def clean_truth(truth: GroundTruth, detections: Iterable[Detection], threshold: float = THRESHOLD) -> GroundTruth:
    """Make objects of the clean run's detections, for pictures that nobody has annotated.

    What is then measured is how much of the undistorted answer survives, not how right that answer is. Fischer et al.,
    Evaluation of Video Coding for Machines without Ground Truth (2022, arXiv 2205.06519), found BD-rates within 0.7
    points of those with annotations.

    Args:
        truth: whose images these are; its annotations do not matter.
        detections: of the clean run, in COCO's results format.
        threshold: least score of an object.

    Returns:
        The images, one annotation per confident detection, with its mask where it has one, and their categories.
    """
    annotations: list[Annotation] = []
    for detection in detections:
        if detection["score"] < threshold or detection["image_id"] is None:
            continue
        x, y, width, height = detection["bbox"]
        mask = detection.get("segmentation")
        annotations.append(
            Annotation(
                id=len(annotations) + 1,
                image_id=detection["image_id"],
                category_id=detection["category_id"],
                bbox=(x, y, width, height),
                area=width * height if mask is None else float(mask_api.area(mask)),
                iscrowd=0,
                segmentation=None if mask is None else Rle((mask["size"][0], mask["size"][1]), mask["counts"]),
                keypoints=detection.get("keypoints"),
            )
        )
    categories = [Category(one) for one in sorted({annotation.category_id for annotation in annotations})]
    return GroundTruth(truth.images, categories, annotations)
