"""Object keypoint similarity: how near keypoints are, in the place of the IoU; equal to pycocotools' to the last digit.

Of https://cocodataset.org/#keypoints-eval: the mean over an object's marked keypoints of exp(−d² / 2s²k²), where d is a
keypoint's distance, s² the object's area, and k how far apart people mark that keypoint.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from featlink.shared.evaluation.coco import KEYPOINTS, Annotation
from featlink.shared.result import Detection

SIGMAS = np.array(
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89],  # nose, eyes, ears, shoulders, … ankles
) / np.float64(1000)
"""(17,) k / 2, as COCO measured them."""

Floats = npt.NDArray[np.float64]


def similarity(detections: Sequence[Detection], objects: Sequence[Annotation]) -> Floats:
    """The similarity of each detection with each object, (D, G), in 0..1.

    Of an object without marked keypoints, such as a crowd, distances are those to its box, enlarged by its size on
    every side: keypoints in there are of it.

    Args:
        detections: with 17 keypoints each.
        objects: with 17 keypoints, or none.
    """
    found = np.array([one["keypoints"] for one in detections], np.float64).reshape(-1, KEYPOINTS, 3)
    x, y = found[..., 0], found[..., 1]
    made = np.empty((len(detections), len(objects)))
    for place, one in enumerate(objects):
        points = np.array(one.keypoints or [0] * 3 * KEYPOINTS, np.float64).reshape(KEYPOINTS, 3)
        marked = points[:, 2] > 0
        if marked.any():
            dx, dy = x - points[:, 0], y - points[:, 1]
        else:
            left, top, width, height = one.bbox
            marked = np.ones(KEYPOINTS, bool)
            dx, dy = _beyond(x, left - width, left + width * 2), _beyond(y, top - height, top + height * 2)
        errors = (dx**2 + dy**2) / (SIGMAS * 2) ** 2 / (one.area + np.spacing(1)) / 2
        made[:, place] = np.exp(-np.ascontiguousarray(errors[:, marked])).sum(axis=1) / np.count_nonzero(marked)
    return made


def area(detection: Detection) -> float:
    """Of the box around a detection's keypoints, in pixels²."""
    x, y = detection["keypoints"][0::3], detection["keypoints"][1::3]
    return (max(x) - min(x)) * (max(y) - min(y))


def _beyond(values: Floats, low: float, high: float) -> Floats:
    return np.maximum(0, low - values) + np.maximum(0, values - high)
