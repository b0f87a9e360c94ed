"""Open Images' challenge mAP: average precision at an IoU of 0.5 with a hierarchy of classes, groups, verified labels.

The protocol is that of https://storage.googleapis.com/openimages/web/evaluation.html. Of each image it is known which
classes somebody looked for; detections of others do not count. An object of a class is one of all classes above it. A
box around a group of objects is found if a detection lies in it by half or more, however many do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_api

from featlink.shared.evaluation.categories import upwards
from featlink.shared.evaluation.coco import Annotation, ItemTruth
from featlink.shared.evaluation.coco_metrics import object_mask
from featlink.shared.evaluation.protocol import Evaluator, Figure, register_evaluator
from featlink.shared.result import Detection, ItemId

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_IOU = 0.5
_KINDS = ("openimages", "openimages_segm")


@dataclass(frozen=True, eq=False)
class Found:
    """How the detections of an image and class fare.

    Attributes:
        scores: (D,); of detections in a group the best one's alone.
        true: (D,), whether each finds an object or a group.
        objects: how many objects and groups there are.
    """

    scores: Floats
    true: npt.NDArray[np.bool_]
    objects: int


Sample = Mapping[str, Mapping[int, Found]]
"""By figure's group and class."""


@register_evaluator
class OpenImagesEvaluator(Evaluator[Sample]):
    """Boxes and, where there are any, masks; applies to data sets that say which classes were verified."""

    figures = (
        Figure("openimages.mAP50", "Open Images mAP50", "%", 100),
        Figure("openimages_segm.mAP50", "Open Images mask mAP50", "%", 100),
    )
    primary = "openimages.mAP50"

    def update(self, item: ItemId, truth: ItemTruth, prediction: Sequence[Detection]) -> Sample:
        """See the base class."""
        if truth.image.verified is None:
            return {}
        objects: dict[int, list[Annotation]] = {}
        for one in truth.annotations:
            for category in upwards(one.category_id, truth.parents):
                objects.setdefault(category, []).append(one)
        counted = {*truth.image.verified, *objects}
        detections: dict[int, list[Detection]] = {}
        for detection in sorted(prediction, key=lambda one: -one["score"]):
            if detection["category_id"] in counted:
                detections.setdefault(detection["category_id"], []).append(detection)
        has_masks = truth.has_masks and all("segmentation" in one for one in prediction)
        return {
            kind: {
                category: _found(detections.get(category, []), objects.get(category, []), truth, kind == _KINDS[1])
                for category in {*objects, *detections}
            }
            for kind in _KINDS[: 1 + has_masks]
        }

    def compute(self, samples: Sequence[Sample]) -> dict[str, float | None]:
        """See the base class."""
        one = np.ones((1, len(samples)), np.int64)
        return {f"{kind}.mAP50": float(drawn.draws(one)[0]) for kind, drawn in self.resamplers(samples).items()}

    def resamplers(self, samples: Sequence[Sample]) -> dict[str, Ranked]:
        """See the base class."""
        return {kind: Ranked([one[kind] for one in samples]) for kind in _KINDS if all(kind in one for one in samples)}


def _found(detections: Sequence[Detection], objects: Sequence[Annotation], truth: ItemTruth, masks: bool) -> Found:
    """Match an image's detections of a class, the surest first, with objects, then the rest with groups."""
    single = [one for one in objects if not one.iscrowd]
    groups = [one for one in objects if one.iscrowd]
    scores = np.array([one["score"] for one in detections], np.float64)
    true = np.zeros(len(scores), bool)
    overlap = _overlap(detections, single, truth, masks)
    taken = np.zeros(len(single), bool)
    for place, row in enumerate(overlap):
        best = row.argmax() if len(row) else 0
        if len(row) and row[best] >= _IOU and not taken[best]:
            true[place] = taken[best] = True
    inside = _overlap(detections, groups, truth, masks)
    kept = np.ones(len(scores), bool)
    seen = np.zeros(len(groups), bool)
    for place, row in enumerate(inside):
        if not true[place] and len(row) and row.max() >= _IOU:
            group = row.argmax()
            kept[place] = true[place] = not seen[group]
            seen[group] = True
    return Found(scores[kept], true[kept], len(objects))


def _overlap(detections: Sequence[Detection], objects: Sequence[Annotation], truth: ItemTruth, masks: bool) -> Floats:
    """IoU (D, G); of groups the share of a detection's area that lies in them."""
    if not detections or not objects:
        return np.zeros((len(detections), len(objects)))
    crowd = [one.iscrowd for one in objects]
    if masks:
        wanted = [object_mask(one, truth.image) for one in objects]
        shares: Floats = mask_api.iou([one["segmentation"] for one in detections], wanted, crowd)
    else:
        boxes = np.array([one["bbox"] for one in detections], np.float64)
        shares = mask_api.iou(boxes, np.array([one.bbox for one in objects], np.float64), crowd)
    return shares


class Ranked:
    """A :class:`featlink.shared.evaluation.protocol.Resampler`: all detections of each class, the surest first.

    Args:
        images: by class, one for each image.
    """

    def __init__(self, images: Sequence[Mapping[int, Found]]) -> None:
        classes: dict[int, list[tuple[int, Found]]] = {}
        for place, found in enumerate(images):
            for category, one in found.items():
                classes.setdefault(category, []).append((place, one))
        self._classes = []
        for _, parts in sorted(classes.items()):
            scores = np.concatenate([one.scores for _, one in parts])
            order = np.argsort(-scores, kind="stable")
            of_image = np.repeat([place for place, _ in parts], [len(one.scores) for _, one in parts])[order]
            objects = np.zeros(len(images), np.int64)
            objects[[place for place, _ in parts]] = [one.objects for _, one in parts]
            self._classes.append((of_image, np.concatenate([one.true for _, one in parts])[order], objects))

    def draws(self, weights: Ints) -> Floats:
        """See the protocol: the mean over classes that have objects, NaN without any."""
        return np.array([self._mean(row) for row in weights], np.float64)

    def _mean(self, weights: Ints) -> float:
        values = [
            _average_precision(weights[image], true, int(weights @ objects)) for image, true, objects in self._classes
        ]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else float("nan")


def _average_precision(weights: Ints, true: npt.NDArray[np.bool_], objects: int) -> float | None:
    """The area under a class's precision over recall, precision made monotone; None without objects."""
    if not objects:
        return None
    hits, all_found = (weights * true).cumsum(), weights.cumsum()
    precision = np.maximum.accumulate((hits / np.maximum(all_found, 1))[::-1])[::-1]
    gained = np.diff(hits, prepend=0) / objects
    return float((precision * gained).sum())
