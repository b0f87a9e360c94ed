"""Detections in COCO's results format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cloud import rle
from cloud.coco import Detection
from shared.detector.detections import Detections, MaskPart, PartialMasks

_MASK_THRESHOLD = 0.5
"""torchvision's reference evaluation binarises masks here."""


def to_coco(detections: Detections, image_id: int | None) -> list[Detection]:
    """Detections as COCO results.

    Args:
        detections: of one image.
        image_id: its id, if it has one.

    Returns:
        One dict per detection: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height), ``score`` and, for
        models with masks, ``segmentation`` (compressed RLE). Width and height are taken in float64, so
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
    if detections.masks is not None:
        for index, result in enumerate(results):
            mask = _part(detections.masks, index)
            result["segmentation"] = rle.encode(mask.values > _MASK_THRESHOLD, mask.top, mask.left, mask.size)
    return results


def _part(masks: Sequence[npt.NDArray[np.float32]], index: int) -> MaskPart:
    if isinstance(masks, PartialMasks):
        return masks.part(index)
    height, width = masks[index].shape
    return MaskPart(masks[index], 0, 0, (height, width))
