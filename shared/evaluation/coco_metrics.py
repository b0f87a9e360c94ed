"""COCO metrics: the 12 box and 12 mask numbers, equal to pycocotools' ``COCOeval`` to the last digit.

pycocotools' evaluator loops in Python over every category × image × area, prints, and writes into its
inputs. This one does the same arithmetic on arrays and shares no state; ``matching`` has the first half.
The protocol is that of https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from featlink.shared.evaluation.coco import Detection, GroundTruth
from featlink.shared.evaluation.matching import AREAS, IOUS, MOST_DETECTIONS, Floats, Matched, Matches, match

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Names of the 12 numbers in COCO's order; s, m, l are small, medium and large objects."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""At which precision is averaged."""
_MAX_DETECTIONS = (1, 10, MOST_DETECTIONS)

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Metrics:
    """COCO metrics of a set of detections.

    Attributes:
        bbox: value in [0, 1] by name (:data:`METRICS`); None where there is no object to find.
        segm: the same for masks; None unless the ground truth and every detection have masks.
    """

    bbox: Scores
    segm: Scores | None


def evaluate(truth: GroundTruth, detections: Iterable[Detection], image_ids: Iterable[int]) -> Metrics:
    """Score detections on some images of a data set.

    As in pycocotools, a detection's area is that of its box, for masks too.

    Args:
        truth: the ground truth; left as it is.
        detections: COCO results; those of other images or unknown categories do not count.
        image_ids: the images to score on.

    Raises:
        ValueError: ``image_ids`` has an id that the data set does not have.

    Example:
        >>> from featlink.shared.evaluation import coco
        >>> box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [2, 2, 8, 8], "area": 64, "iscrowd": 0}
        >>> truth = coco.parse(
        ...     {"images": [{"id": 1, "width": 20, "height": 20}], "categories": [{"id": 3}], "annotations": [box]}
        ... )
        >>> found: Detection = {"image_id": 1, "category_id": 3, "bbox": [2, 2, 8, 7], "score": 0.5}
        >>> metrics = evaluate(truth, [found], [1])
        >>> round(metrics.bbox["AP"], 3), metrics.bbox["APl"], metrics.segm
        (0.8, None, None)
    """
    return score(match(truth, detections, image_ids))


def score(matched: Matched, importance: Floats | None = None) -> Metrics:
    """The metrics of detections that are matched already.

    Args:
        matched: by :func:`featlink.shared.evaluation.matching.match`.
        importance: (T,) weights of the IoU thresholds in AP, APs, APm and APl; default: COCO's, all the same.
    """
    segm = None if matched.segm is None else _scores(matched.segm, importance)
    return Metrics(bbox=_scores(matched.bbox, importance), segm=segm)


def _scores(categories: Sequence[Sequence[Matches]], importance: Floats | None) -> Scores:
    curves = [_curves(cells) for cells in categories]
    precision = np.array([precision for precision, _ in curves]).reshape(-1, len(AREAS), len(IOUS), len(RECALLS))
    recall = np.array([recall for _, recall in curves]).reshape(-1, len(AREAS), len(_MAX_DETECTIONS), len(IOUS))
    ap = [mean_existing(precision[:, area].transpose(1, 2, 0), importance) for area in range(len(AREAS))]
    ap_at = [mean_existing(precision[:, 0, threshold].T) for threshold in (0, 5)]
    ar_all = [mean_existing(recall[:, 0, most].T) for most in range(len(_MAX_DETECTIONS))]
    ar_sized = [mean_existing(recall[:, area, -1].T) for area in range(1, len(AREAS))]
    return dict(zip(METRICS, [ap[0], *ap_at, *ap[1:], *ar_all, *ar_sized], strict=True))


def mean_existing(values: Floats, importance: Floats | None = None) -> float | None:
    """Mean of the entries that exist (are not -1); axes in pycocotools' order, so sums round the same.

    Args:
        values: any shape, or with ``importance`` (T, R, K), where a category exists at all thresholds or at none.
        importance: (T,) weights of the first axis.
    """
    existing = values[values > -1]
    if importance is None or not existing.size:
        return float(existing.mean()) if existing.size else None
    return float(np.average(existing.reshape(len(values), -1).mean(axis=1), weights=importance))


def _curves(cells: Sequence[Matches]) -> tuple[Floats, Floats]:
    """Pool a category's images.

    Returns:
        Precision (A, T, R) at each recall of 0, 0.01 .. 1, and recall (A, M, T) with the best 1, 10
        and 100 detections per image; -1 in an area range without objects.
    """
    scores = np.concatenate([cell.scores for cell in cells])
    rank = np.concatenate([np.arange(len(cell.scores)) for cell in cells])
    true = np.concatenate([cell.true for cell in cells], axis=-1)
    false = np.concatenate([cell.false for cell in cells], axis=-1)
    objects = np.sum([cell.objects for cell in cells], axis=0)
    order = np.argsort(-scores, kind="stable")
    precision = np.full((len(AREAS), len(IOUS), len(RECALLS)), -1.0)
    recall = np.full((len(AREAS), len(_MAX_DETECTIONS), len(IOUS)), -1.0)
    for area in np.flatnonzero(objects):
        hits, false_alarms = true[area][:, order].cumsum(axis=1), false[area][:, order].cumsum(axis=1)
        reached = hits / objects[area]
        envelope = np.zeros((len(IOUS), len(scores) + 1))  # beyond the last recall reached, precision is 0
        envelope[:, :-1] = hits / (false_alarms + hits + np.spacing(1))
        envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
        for threshold in range(len(IOUS)):
            precision[area, threshold] = envelope[threshold, reached[threshold].searchsorted(RECALLS)]
        for index, most in enumerate(_MAX_DETECTIONS):
            recall[area, index] = true[area][:, rank < most].sum(axis=1) / objects[area]
    return precision, recall
