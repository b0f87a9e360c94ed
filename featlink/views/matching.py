"""Which of the clean detections are still found, which are lost, and which are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Detection = Mapping[str, Any]
"""In COCO's results format."""

THRESHOLD = 0.5
"""Detections with lower scores are left out, as in overlays."""

_SAME = 0.5


@dataclass(frozen=True)
class Matching:
    """Received detections beside the clean ones.

    Attributes:
        kept: (clean, received) pairs of one object.
        lost: clean ones without a received one.
        new: received ones without a clean one.
    """

    kept: Sequence[tuple[Detection, Detection]]
    lost: Sequence[Detection]
    new: Sequence[Detection]


def match(clean: Sequence[Detection], received: Sequence[Detection], threshold: float = THRESHOLD) -> Matching:
    """Pair detections of one category whose boxes overlap by an IoU of a half or more, the greatest overlap first.

    Args:
        clean: found without distortion.
        received: found in what crossed the link.
        threshold: detections with lower scores are left out on both sides.

    Example:
        >>> cat = {"category_id": 17, "bbox": [0, 0, 10, 10], "score": 0.9}
        >>> found = match([cat, {**cat, "category_id": 18}], [{**cat, "score": 0.6}])
        >>> len(found.kept), len(found.lost), len(found.new)
        (1, 1, 0)
    """
    before = [one for one in clean if one["score"] >= threshold]
    after = [one for one in received if one["score"] >= threshold]
    overlap = _ious(before, after)
    kept: list[tuple[int, int]] = []
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = divmod(int(flat), len(after))
        if overlap[row, column] < _SAME:
            break
        if all(row != i and column != j for i, j in kept):
            kept.append((row, column))
    rows, columns = {i for i, _ in kept}, {j for _, j in kept}
    return Matching(
        [(before[i], after[j]) for i, j in sorted(kept)],
        [one for i, one in enumerate(before) if i not in rows],
        [one for j, one in enumerate(after) if j not in columns],
    )


def _ious(before: Sequence[Detection], after: Sequence[Detection]) -> npt.NDArray[np.float64]:
    """IoU of boxes (N, M); 0 between categories."""
    a, b = _corners(before)[:, None], _corners(after)[None]
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    shared = sides.prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    labels = [np.array([one["category_id"] for one in side], np.int64) for side in (before, after)]
    same = labels[0][:, None] == labels[1][None]
    iou: npt.NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=(union > 0) & same)
    return iou


def _corners(detections: Sequence[Detection]) -> npt.NDArray[np.float64]:
    boxes = np.array([one["bbox"] for one in detections], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
