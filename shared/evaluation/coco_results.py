"""Detections in COCO's results format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from featlink.shared.evaluation.coco import Detection, DetectionMask
from featlink.shared.evaluation.rle import compressed
from featlink.shared.models.detections import Detections, MaskPart, PartialMasks, runs_of_part


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
            result["segmentation"] = _segmentation(detections.masks, index)
    return results


def _segmentation(masks: Sequence[npt.NDArray[np.float32]], index: int) -> DetectionMask:
    if isinstance(masks, PartialMasks):
        return compressed(masks.runs(index), masks.size)
    height, width = masks[index].shape
    return compressed(runs_of_part(MaskPart(masks[index], 0, 0, (height, width))), (height, width))
