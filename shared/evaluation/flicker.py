"""Flicker: a detection comes or goes between two frames, and what is there does not.

Two things flicker. An object that is there in both frames is found in one and not in the other: the share of such
changes is the fragment error of Zhang and Wang, "On The Stability of Video Detection and Tracking" (arXiv:1611.06467),
the mean over objects k of f_k / (t_k − 1), f_k changes in t_k frames. And a false detection is there in one frame, and
nothing like it in the other.

A detection counts from a score of 0.5 on. It is of an object if their boxes overlap by an IoU of at least 0.5 and they
have one category, each object being given to one detection, the surest first, as in COCO's matching; detections on a
crowd are neither right nor wrong. Detections of two frames are alike where category and IoU say so. Neighbours are
frames that follow one another in the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_api

from featlink.shared.evaluation.coco_metrics import Floats
from featlink.shared.evaluation.protocol import ClipEvaluator, ClipResult, Figure, FrameResult, register_evaluator
from featlink.shared.result import Detection

SCORE = 0.5
"""Least score of a detection that counts."""
IOU = 0.5
"""Least overlap of what is taken for one."""


@dataclass(frozen=True)
class Changes:
    """What flickers in one clip.

    Attributes:
        objects: of each object, the share of pairs of neighbouring frames with it in which it is found once.
        false: how many false detections come or go.
        pairs: of neighbouring frames.
    """

    objects: tuple[float, ...]
    false: int
    pairs: int


@dataclass(frozen=True)
class _Found:
    """What is found in a frame.

    Attributes:
        objects: whether each object, by its id in the clip, is found; crowds are left out.
        detections: that count.
        false: those of them that find nothing.
    """

    objects: dict[int, bool]
    detections: list[Detection]
    false: list[Detection]


@register_evaluator
class FlickerEvaluator(ClipEvaluator[Changes]):
    """How often detections of a clip come or go where the truth does not."""

    figures = (
        Figure("flicker.objects", "flicker of objects", "%", 100),
        Figure("flicker.false", "false flicker a frame"),
    )
    primary = "flicker.objects"

    def update_clip(self, clip: ClipResult) -> Changes:
        """See the base class."""
        found = [_found(frame) for frame in clip.frames]
        changed: dict[int, list[bool]] = {}
        false = 0
        for one, other in pairwise(found):
            for name in one.objects.keys() & other.objects.keys():
                changed.setdefault(name, []).append(one.objects[name] != other.objects[name])
            false += _unlike(one.false, other.detections) + _unlike(other.false, one.detections)
        return Changes(tuple(fmean(changed[name]) for name in sorted(changed)), false, len(found) - 1)

    def compute(self, samples: Sequence[Changes]) -> dict[str, float | None]:
        """See the base class; flicker of objects is not defined where they have no ids."""
        objects = [share for sample in samples for share in sample.objects]
        pairs = sum(sample.pairs for sample in samples)
        return {
            "flicker.objects": fmean(objects) if objects else None,
            "flicker.false": sum(sample.false for sample in samples) / pairs if pairs else None,
        }


def _found(frame: FrameResult) -> _Found:
    detections = sorted((one for one in frame.prediction if one["score"] >= SCORE), key=lambda one: -one["score"])
    objects = frame.truth.annotations
    crowd = np.array([one.iscrowd == 1 for one in objects], bool)
    category = np.array([one.category_id for one in objects])
    ious = overlaps([one["bbox"] for one in detections], [one.bbox for one in objects], crowd)
    free = np.ones(len(objects), bool)
    false = []
    for detection, overlap in zip(detections, ious, strict=True):
        fits = np.flatnonzero(free & (overlap >= IOU) & (category == detection["category_id"]))
        if not len(fits):
            false.append(detection)
            continue
        best = fits[np.lexsort((overlap[fits], ~crowd[fits]))[-1]]  # a crowd only where there is nothing else
        free[best] = crowd[best]
    there = {
        one.instance_id: not still_free
        for one, still_free in zip(objects, free.tolist(), strict=True)
        if one.instance_id is not None and not one.iscrowd
    }
    return _Found(there, detections, false)


def _unlike(false: Sequence[Detection], others: Sequence[Detection]) -> int:
    """How many false detections of one frame have nothing like them in the other."""
    ious = overlaps([one["bbox"] for one in false], [one["bbox"] for one in others])
    same = np.equal.outer([one["category_id"] for one in false], [one["category_id"] for one in others])
    return len(false) - int(((ious >= IOU) & same).any(axis=1).sum())


def overlaps(boxes: Sequence[Sequence[float]], others: Sequence[Sequence[float]], crowd: npt.ArrayLike = ()) -> Floats:
    """IoU of boxes x, y, width, height with others, (D, G).

    Args:
        boxes: D of them.
        others: G of them.
        crowd: (G,) which of these are crowds, where the share of the box counts that it covers; default: none.
    """
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    flags = np.asarray(crowd, np.uint8) if np.size(crowd) else np.zeros(len(others), np.uint8)
    ious: Floats = mask_api.iou(np.array(boxes, np.float64), np.array(others, np.float64), flags)
    return ious
