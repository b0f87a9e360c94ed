"""Tracking: how well one fixed tracker follows the objects of a clip by the boxes that are detected.

The tracker is ByteTrack (Zhang et al., ECCV 2022) of the package ``trackers``, with its default parameters, anew for
each clip and category; it sees boxes and scores alone. HOTA (Luiten et al., IJCV 2021), IDF1 and MOTA are those of
``trackeval``, the authors' own code, with an IoU of 0.5 for the last two. All categories are pooled, as TrackEval's
``combine_classes_det_averaged`` does. Detections on a crowd are left out before they are tracked.

Both packages are optional (``pip install 'featlink[tracking]'``): without them there are no such figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from featlink.shared.evaluation.coco import Annotation
from featlink.shared.evaluation.coco_metrics import Floats, Ints
from featlink.shared.evaluation.flicker import IOU, overlaps
from featlink.shared.evaluation.protocol import (
    ClipEvaluator,
    ClipResult,
    Figure,
    FrameResult,
    Resampler,
    register_evaluator,
)
from featlink.shared.result import Detection

PACKAGES = ("trackers", "trackeval")
_FPS = 30.0
"""Of a clip that does not say: ByteTrack's own default; it decides after how many frames a lost track is given up."""
_BEGINS = 0.7
"""Least score with which a track begins, also ByteTrack's own default; a category without such has no tracks."""
HINT = "HOTA, IDF1 and MOTA need two more packages: pip install 'featlink[tracking]'"


@dataclass(frozen=True)
class Tracks:
    """Boxes of a frame with the ids of whose they are: x, y, width, height in pixels, ids and categories."""

    boxes: list[list[float]]
    ids: list[int]
    categories: list[int]


@dataclass(frozen=True)
class Scored:
    """A clip as TrackEval's three metrics have it, by their own names of fields."""

    hota: Mapping[str, Any]
    identity: Mapping[str, Any]
    clear: Mapping[str, Any]


class TrackingEvaluator(ClipEvaluator[Scored | None]):
    """HOTA, IDF1 and MOTA of a fixed tracker; they apply where objects have ids."""

    figures = (
        Figure("tracking.HOTA", "HOTA", "%", 100),
        Figure("tracking.DetA", "DetA", "%", 100),
        Figure("tracking.AssA", "AssA", "%", 100),
        Figure("tracking.IDF1", "IDF1", "%", 100),
        Figure("tracking.MOTA", "MOTA", "%", 100),
        Figure("tracking.switches", "identity switches"),
    )
    primary = "tracking.HOTA"

    def update_clip(self, clip: ClipResult) -> Scored | None:
        """Track and score a clip; None where an object has no id."""
        there = [[one for one in frame.truth.annotations if not one.iscrowd] for frame in clip.frames]
        if any(one.instance_id is None for one in chain(*there)):
            return None
        return scored([_truth(objects) for objects in there], track(clip))

    def compute(self, samples: Sequence[Scored | None]) -> dict[str, float | None]:
        """See the base class."""
        known = [one for one in samples if one is not None]
        if not known or len(known) < len(samples):
            return {}
        hota, identity, clear = _metrics()
        of_hota = hota.combine_sequences({str(place): one.hota for place, one in enumerate(known)})
        of_identity = identity.combine_sequences({str(place): one.identity for place, one in enumerate(known)})
        of_clear = clear.combine_sequences({str(place): one.clear for place, one in enumerate(known)})
        if not of_clear["CLR_TP"] + of_clear["CLR_FN"]:  # there is nothing to track
            return {figure.name: None for figure in self.figures}
        return {
            **{f"tracking.{name}": float(np.mean(of_hota[name])) for name in ("HOTA", "DetA", "AssA")},
            "tracking.IDF1": float(of_identity["IDF1"]),
            "tracking.MOTA": float(of_clear["MOTA"]),
            "tracking.switches": float(of_clear["IDSW"]),
        }

    def resamplers(self, samples: Sequence[Scored | None]) -> dict[str, Resampler]:
        """See the base class."""
        names = ("HOTA_TP", "HOTA_FN", "HOTA_FP", "AssA")
        columns = [np.array([one.hota[name] for one in samples if one is not None]) for name in names]
        return {"tracking": _Hota(*columns)}


if all(find_spec(package) is not None for package in PACKAGES):
    register_evaluator(TrackingEvaluator)


@dataclass(frozen=True, eq=False)
class _Hota:
    """HOTA of draws of clips: counts and association add up over clips; each (N, 19), by IoU."""

    true: Floats
    missed: Floats
    false: Floats
    association: Floats

    def draws(self, weights: npt.NDArray[np.int64]) -> Floats:
        """See :class:`featlink.shared.evaluation.protocol.Resampler`."""
        true, missed, false = weights @ self.true, weights @ self.missed, weights @ self.false
        association = weights @ (self.true * self.association) / np.maximum(1, true)
        hota: Floats = np.sqrt(true / np.maximum(1, true + missed + false) * association).mean(axis=1)
        return np.where((true + missed).any(axis=1), hota, np.nan)


def track(clip: ClipResult) -> list[Tracks]:
    """The boxes that the tracker gives an id, frame by frame."""
    import supervision
    from trackers import ByteTrackTracker

    kept = [_outside_crowds(frame) for frame in clip.frames]
    tracked = [Tracks([], [], []) for _ in kept]
    first = 0  # each category has its own ids
    for category in sorted({one["category_id"] for one in chain(*kept) if one["score"] >= _BEGINS}):
        tracker = ByteTrackTracker(frame_rate=clip.fps or _FPS, track_activation_threshold=_BEGINS)
        for found, frame in zip(kept, tracked, strict=True):
            of_category = [one for one in found if one["category_id"] == category]
            corners = np.array([one["bbox"] for one in of_category], np.float64).reshape(-1, 4)
            corners[:, 2:] += corners[:, :2]
            scores = np.array([one["score"] for one in of_category], np.float64)
            result = tracker.update(supervision.Detections(corners, confidence=scores))
            numbers = np.asarray(result.tracker_id, np.int64).tolist()
            for (left, top, right, bottom), number in zip(result.xyxy.tolist(), numbers, strict=True):
                if number >= 0:  # a box of a track; a new track is sure from its second frame on
                    frame.boxes.append([left, top, right - left, bottom - top])
                    frame.ids.append(first + number)
                    frame.categories.append(category)
        first = 1 + max(chain(*(frame.ids for frame in tracked)), default=-1)
    return tracked


def scored(truth: Sequence[Tracks], tracked: Sequence[Tracks]) -> Scored:
    """TrackEval's metrics of one clip, frame by frame; boxes of different categories do not match."""
    data = {
        "num_timesteps": len(truth),
        "similarity_scores": [_similarity(one, other) for one, other in zip(truth, tracked, strict=True)],
    }
    for side, frames in (("gt", truth), ("tracker", tracked)):
        names, places = np.unique(np.array(list(chain(*(one.ids for one in frames))), np.int64), return_inverse=True)
        ends = np.cumsum([0, *(len(one.ids) for one in frames)])
        ids: list[Ints] = [places[begin:end] for begin, end in pairwise(ends.tolist())]
        data |= {f"{side}_ids": ids, f"num_{side}_ids": len(names), f"num_{side}_dets": len(places)}
    return Scored(*(metric.eval_sequence(data) for metric in _metrics()))


def _metrics() -> tuple[Any, Any, Any]:
    from trackeval.metrics import CLEAR, HOTA, Identity

    config = {"THRESHOLD": IOU, "PRINT_CONFIG": False}
    return HOTA(), Identity(config), CLEAR(config)


def _truth(objects: Sequence[Annotation]) -> Tracks:
    ids = [-1 if one.instance_id is None else one.instance_id for one in objects]
    return Tracks([list(one.bbox) for one in objects], ids, [one.category_id for one in objects])


def _similarity(truth: Tracks, tracked: Tracks) -> Floats:
    """IoU of boxes of one category, (G, D); 0 of others."""
    return overlaps(truth.boxes, tracked.boxes) * np.equal.outer(truth.categories, tracked.categories)


def _outside_crowds(frame: FrameResult) -> list[Detection]:
    """A frame's detections without those that a crowd of their category covers, and that no object does."""
    objects = frame.truth.annotations
    crowd = np.array([one.iscrowd == 1 for one in objects], bool)
    ious = overlaps([one["bbox"] for one in frame.prediction], [one.bbox for one in objects], crowd)
    hits = (ious >= IOU) & np.equal.outer(
        [one["category_id"] for one in frame.prediction], [one.category_id for one in objects]
    )
    dropped = np.flatnonzero(hits[:, crowd].any(axis=1) & ~hits[:, ~crowd].any(axis=1))
    return [one for place, one in enumerate(frame.prediction) if place not in dropped]
