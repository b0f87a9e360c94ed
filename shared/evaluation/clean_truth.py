"""The clean run's detections as the truth: for pictures that nobody has annotated.

Fischer et al., Evaluation of Video Coding for Machines without Ground Truth (2022, arXiv 2205.06519), found BD-rates
within 0.7 points of those with annotations. What is measured is how much of the undistorted answer survives, not how
right that answer is.

Against annotations, even the clean run fails at high IoU, so these thresholds have little say in how much AP is kept;
against itself it never fails, and they would have as much say as any other. So AP weighs thresholds here: in proportion
to 1 − IoU, about as a detector's clean AP falls. docs/measurements.md has how near that comes.
"""

from __future__ import annotations

from collections.abc import Iterable

from pycocotools import mask as mask_api

from featlink.shared.evaluation.coco import Annotation, Category, Detection, GroundTruth, Rle
from featlink.shared.evaluation.matching import IOUS

IMPORTANCE = 1 - IOUS
"""Of the IoU thresholds in AP, APs, APm and APl."""
THRESHOLD = 0.5
"""Detections with lower scores are no objects; as with real objects, finding them is then a false alarm."""


def clean_truth(truth: GroundTruth, detections: Iterable[Detection], threshold: float = THRESHOLD) -> GroundTruth:
    """Make objects of detections.

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
            )
        )
    categories = [Category(one) for one in sorted({annotation.category_id for annotation in annotations})]
    return GroundTruth(truth.images, categories, annotations)
