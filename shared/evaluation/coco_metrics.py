"""COCO metrics: the 12 box, 12 mask and 10 keypoint numbers, equal to pycocotools' ``COCOeval`` to the last digit.

pycocotools' evaluator loops in Python over every category × image × area, prints, and writes into its inputs. This one
does the same arithmetic on arrays, all areas and IoU thresholds at once, in three steps: each image's detections are
matched with its objects (:func:`match`), matches are pooled by category (:func:`score`), and AP is taken anew of images
that have weights (:class:`Pool`). IoU itself is pycocotools' C code. The protocol is that of
https://cocodataset.org/#detection-eval.

One difference is meant: an annotation of id 0 counts. pycocotools takes a match with it for no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_api

from featlink.shared.compiled import numba
from featlink.shared.evaluation import keypoints
from featlink.shared.evaluation.coco import Annotation, GroundTruth, Image, ItemTruth, Rle, items
from featlink.shared.evaluation.confidence_intervals import SPLITS, halve_images, unbiased
from featlink.shared.evaluation.protocol import Evaluator, Figure, Scores, register_evaluator
from featlink.shared.result import Detection, ItemId

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Names of the 12 numbers in COCO's order; s, m, l are small, medium and large objects."""
KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""Of the 10 of keypoints."""

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
"""At which precision is averaged."""
AREAS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])
"""Ranges in pixels²: all, small, medium, large."""
MOST_DETECTIONS = 100
"""Of an image and category; the rest does not count."""
_MOST_KEYPOINTS = 20
"""The same of keypoints."""
_MAX_DETECTIONS = (1, 10, MOST_DETECTIONS)
CLEAN_IMPORTANCE = 1 - IOUS
"""Of the IoU thresholds where the clean run is the truth. Against annotations, even the clean run fails at high IoU, so
these thresholds have little say in how much AP is kept; against itself it never fails, and they would have as much say
as any other. So they weigh here about as a detector's clean AP falls; docs/measurements.md has how near that comes."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Kind:
    """What is matched: boxes, masks or keypoints.

    Attributes:
        overlap: of detections and objects, (D, G), in 0..1.
        area: of a detection, in pixels².
        ignores: whether an object does not count, whatever its area.
        most: detections of an image and category.
    """

    overlap: Callable[[list[Detection], list[Annotation], Image], Floats]
    area: Callable[[Detection], float]
    ignores: Callable[[Annotation], bool]
    most: int = MOST_DETECTIONS


@dataclass(frozen=True)
class Metrics:
    """COCO metrics of a set of detections.

    Attributes:
        bbox: value in [0, 1] by name (:data:`METRICS`); None where there is no object to find.
        segm: the same for masks; None unless the ground truth and every detection have masks.
        keypoints: likewise, by name (:data:`KEYPOINT_METRICS`).
    """

    bbox: Scores
    segm: Scores | None
    keypoints: Scores | None = None


def evaluate(
    truth: GroundTruth, detections: Iterable[Detection], image_ids: Iterable[int], importance: Floats | None = None
) -> Metrics:
    """Score detections on some images of a data set.

    As in pycocotools, a detection's area is that of its box, for masks too.

    Args:
        truth: the ground truth; left as it is.
        detections: COCO results; those of other images or unknown categories do not count.
        image_ids: the images to score on.
        importance: (T,) weights of the IoU thresholds in AP, APs, APm and APl; default: COCO's, all the same.

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
    return score(match(truth, detections, image_ids), importance)


# Matching: which detections find which objects, one cell of image and category at a time.


@dataclass(frozen=True)
class Matches:
    """How the detections of one image and category fare, per area range A and IoU threshold T.

    Attributes:
        scores: (D,), best first, at most 100, of keypoints 20.
        true: (A, T, D), detections that find an object which counts.
        false: (A, T, D), detections that find nothing; those in neither are ignored.
        objects: (A,), how many objects count.
    """

    scores: Floats
    true: Bools
    false: Bools
    objects: Ints


@dataclass(frozen=True)
class ImageMatches:
    """The matches of one image, by category; only categories with objects or detections are in it.

    Attributes:
        image: its id.
        bbox: of boxes.
        segm: of masks; None unless the ground truth and every detection have masks.
        clip: whose frame it is; None for a still.
        keypoints: of keypoints; None unless the ground truth and every detection have them.
    """

    image: int
    bbox: Mapping[int, Matches]
    segm: Mapping[int, Matches] | None
    clip: int | None = None
    keypoints: Mapping[int, Matches] | None = None


@dataclass
class _Cell:
    """What one image has of one category."""

    detections: list[Detection] = field(default_factory=list)
    objects: list[Annotation] = field(default_factory=list)


def match(truth: GroundTruth, detections: Iterable[Detection], image_ids: Iterable[int]) -> list[ImageMatches]:
    """Match detections with objects on some images of a data set; arguments and errors as of :func:`evaluate`.

    Returns:
        One entry per image, by rising id.
    """
    of_image: dict[int, list[Detection]] = {image_id: [] for image_id in sorted(set(image_ids))}
    for detection in detections:
        if (image_id := detection["image_id"]) is not None and image_id in of_image:
            of_image[image_id].append(detection)
    there = items(truth)
    if unknown := of_image.keys() - there.keys():
        raise ValueError(f"image {min(unknown)} is not in the data set")
    return [match_image(there[image_id], found) for image_id, found in of_image.items()]


def match_image(truth: ItemTruth, detections: Iterable[Detection]) -> ImageMatches:
    """Match the detections of one image with its objects."""
    cells: dict[int, _Cell] = {}
    has_masks, has_keypoints = truth.has_masks, truth.has_keypoints
    for annotation in truth.annotations:
        cells.setdefault(annotation.category_id, _Cell()).objects.append(annotation)
    for detection in detections:
        if detection["category_id"] in truth.categories:
            cells.setdefault(detection["category_id"], _Cell()).detections.append(detection)
            has_masks = has_masks and "segmentation" in detection
            has_keypoints = has_keypoints and "keypoints" in detection

    def matched(kind: _Kind) -> dict[int, Matches]:
        return {category: _match_cell(cell, truth.image, kind) for category, cell in cells.items()}

    masks = matched(_MASKS) if has_masks else None
    points = matched(_KEYPOINTS) if has_keypoints else None
    return ImageMatches(truth.image.id, matched(_BOXES), masks, truth.image.video_id, points)


def _match_cell(cell: _Cell, image: Image, kind: _Kind) -> Matches:
    detections = sorted(cell.detections, key=lambda one: -one["score"])[: kind.most]
    crowd = np.array([one.iscrowd == 1 for one in cell.objects], dtype=bool)
    ignored = np.array([kind.ignores(one) for one in cell.objects], dtype=bool)
    ignored = ignored | _outside([one.area for one in cell.objects])
    outside = _outside([kind.area(one) for one in detections])[:, None, :]
    if detections and cell.objects:
        found, found_ignored = _match(kind.overlap(detections, cell.objects, image), crowd, ignored)
    else:
        found = found_ignored = np.zeros((len(AREAS), len(IOUS), len(detections)), dtype=bool)
    return Matches(
        scores=np.array([one["score"] for one in detections], dtype=np.float64),
        true=found & ~found_ignored,
        false=~found & ~outside,
        objects=(~ignored).sum(axis=1),
    )


def _outside(areas: list[float]) -> Bools:
    """Which of N areas lie outside each area range; (A, N)."""
    pixels = np.array(areas, dtype=np.float64)
    return (pixels < AREAS[:, :1]) | (pixels > AREAS[:, 1:])


def _match(ious: Floats, crowd: Bools, ignored: Bools) -> tuple[Bools, Bools]:
    """Give each detection, best first, the free object it overlaps most; one that counts, if any does.

    Args:
        ious: (D, G) of detections and objects.
        crowd: (G,), objects that stay free when matched.
        ignored: (A, G), objects that do not count in an area range.

    Returns:
        Which detections find an object, and which find one that does not count; each (A, T, D).
    """
    lanes = np.arange(len(AREAS) * len(IOUS))  # every area range at every threshold, side by side
    least = np.tile(IOUS, len(AREAS))[:, None]
    ignored = ignored.repeat(len(IOUS), axis=0)
    taken = np.zeros_like(ignored)
    found, found_ignored = np.zeros((2, len(lanes), len(ious)), dtype=bool)
    preference = ious.argsort(axis=1, kind="stable").argsort(axis=1)  # of equal IoU, the last object is preferred
    bonus = len(crowd) * ~ignored  # any object that counts is preferred to all that do not
    for index in np.flatnonzero(ious.max(axis=1) >= IOUS[0]):
        fits = (ious[index] >= least) & ~taken
        best = np.where(fits, preference[index] + bonus, -1).argmax(axis=1)
        hit = fits[lanes, best]
        found[:, index] = hit
        found_ignored[:, index] = hit & ignored[lanes, best]
        taken[lanes, best] |= hit & ~crowd[best]
    shape = (len(AREAS), len(IOUS), len(ious))
    return found.reshape(shape), found_ignored.reshape(shape)


def _box_iou(detections: list[Detection], objects: list[Annotation], image: Image) -> Floats:
    boxes = np.array([one["bbox"] for one in detections], dtype=np.float64)
    return _iou(boxes, np.array([one.bbox for one in objects]), objects)


def _mask_iou(detections: list[Detection], objects: list[Annotation], image: Image) -> Floats:
    return _iou([one["segmentation"] for one in detections], [object_mask(one, image) for one in objects], objects)


def _iou(found: object, wanted: object, objects: list[Annotation]) -> Floats:
    """Shape (D, G); for a crowd, the intersection over the detection's own area."""
    ious: Floats = mask_api.iou(found, wanted, [one.iscrowd for one in objects])
    return ious


def object_mask(annotation: Annotation, image: Image) -> object:
    """An annotation's mask as the compressed RLE that pycocotools works on."""
    segmentation = annotation.segmentation
    if isinstance(segmentation, Rle):
        rle = {"size": list(segmentation.size), "counts": segmentation.counts}
        return rle if isinstance(segmentation.counts, str) else mask_api.frPyObjects(rle, image.height, image.width)
    return mask_api.merge(mask_api.frPyObjects(segmentation, image.height, image.width))


def _is_crowd(annotation: Annotation) -> bool:
    return annotation.iscrowd == 1


def _box_area(detection: Detection) -> float:
    return detection["bbox"][2] * detection["bbox"][3]


_BOXES = _Kind(_box_iou, _box_area, _is_crowd)
_MASKS = _Kind(_mask_iou, _box_area, _is_crowd)
_KEYPOINTS = _Kind(
    lambda detections, objects, image: keypoints.similarity(detections, objects),
    keypoints.area,
    lambda one: _is_crowd(one) or not one.marked_keypoints,
    _MOST_KEYPOINTS,
)


# Scores: matches, pooled by category.


def score(samples: Iterable[ImageMatches], importance: Floats | None = None) -> Metrics:
    """The metrics of images that are matched; ``importance`` as in :func:`evaluate`."""
    samples = sorted(samples, key=lambda one: one.image)  # as pycocotools; that decides between equal scores
    found = {kind: _scores(_by_category(matches), importance, kind) for kind, matches in _kinds(samples).items()}
    return Metrics(found["bbox"], found.get("segm"), found.get("keypoints"))


def _kinds(samples: Sequence[ImageMatches]) -> dict[str, list[Mapping[int, Matches]]]:
    """The matches of boxes, and of masks and keypoints where all images have them, image by image."""
    kinds = {kind: [getattr(one, kind) for one in samples] for kind in ("bbox", "segm", "keypoints")}
    return {
        kind: matches for kind, matches in kinds.items() if None not in matches and (samples or kind != "keypoints")
    }


def _by_category(images: Iterable[Mapping[int, Matches]]) -> list[list[Matches]]:
    """Categories by rising id, as in pycocotools, so that means round the same; each its images' matches."""
    categories: dict[int, list[Matches]] = {}
    for matches in images:
        for category, cell in matches.items():
            categories.setdefault(category, []).append(cell)
    return [cells for _, cells in sorted(categories.items())]


def _scores(categories: Sequence[Sequence[Matches]], importance: Floats | None, kind: str) -> Scores:
    curves = [_curves(cells) for cells in categories]
    precision = np.array([precision for precision, _ in curves]).reshape(-1, len(AREAS), len(IOUS), len(RECALLS))
    recall = np.array([recall for _, recall in curves]).reshape(-1, len(AREAS), len(_MAX_DETECTIONS), len(IOUS))
    ap = [mean_existing(precision[:, area].transpose(1, 2, 0), importance) for area in range(len(AREAS))]
    ap_at = [mean_existing(precision[:, 0, threshold].T) for threshold in (0, 5)]
    ar_all = [mean_existing(recall[:, 0, most].T) for most in range(len(_MAX_DETECTIONS))]
    ar_sized = [mean_existing(recall[:, area, -1].T) for area in range(1, len(AREAS))]
    if kind == "keypoints":  # people with keypoints are not small
        ar_at = [mean_existing(recall[:, 0, -1, threshold]) for threshold in (0, 5)]
        return dict(zip(KEYPOINT_METRICS, [ap[0], *ap_at, *ap[2:], ar_all[-1], *ar_at, *ar_sized[1:]], strict=True))
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


# Resampling: AP of images that have weights. Matching is done once, each draw only counts anew.

_TRUE, _FALSE = 1, 2


@dataclass(frozen=True, eq=False)
class Pool:
    """All detections of one kind (boxes or masks) over all sizes of objects, with how they fare.

    An image that is drawn twice weighs two, one that is not drawn nothing. Its objects and its detections have weights
    of their own, so that a detection which comes too late can be taken away while what it should have found stays.

    Attributes:
        images: (N,) ids, rising.
        starts: (K + 1,), where each category's detections begin.
        image: (D,) int32, position in ``images``; by category, within one by falling score.
        fate: (D, T) uint8 by IoU threshold: 1 finds an object, 2 finds nothing, 0 does not count.
        objects: (K, N) int32, how many objects count.
        importance: (T,) weights of the IoU thresholds in AP; None: COCO's, all the same.
        clips: (N,), whose frame each image is; None for stills.
    """

    images: Ints
    starts: Ints
    image: npt.NDArray[np.int32]
    fate: npt.NDArray[np.uint8]
    objects: npt.NDArray[np.int32]
    importance: Floats | None = None
    clips: Ints | None = None

    def average_precision(self, weights: npt.ArrayLike, kept: npt.ArrayLike | None = None) -> float | None:
        """COCO's AP over images that have weights.

        Args:
            weights: (N,) how often each image counts, whole numbers from 0 on.
            kept: (N,) 1 where the image's detections count, 0 where they came to nothing; default: all do.

        Returns:
            In 0..1; with weights of 1 the very number of :func:`score`. None without objects.
        """
        of_objects = np.asarray(weights, np.int64)
        of_detections = of_objects if kept is None else of_objects * np.asarray(kept, np.int64)
        precision = np.empty((len(IOUS), len(RECALLS), len(self.objects)))
        _precision(self.starts, self.image, self.fate, self.objects, of_objects, of_detections, RECALLS, precision)
        return mean_existing(precision, self.importance)

    def resample(self, weights: Ints, kept: npt.ArrayLike | None = None) -> Floats:
        """AP of each draw as it is: (B,) for (B, N) weights, NaN for a draw without objects."""
        values = (self.average_precision(draw, kept) for draw in weights)
        return np.array([np.nan if value is None else value for value in values])

    def draws(self, weights: Ints, kept: npt.ArrayLike | None = None) -> Floats:
        """AP of each draw, (B,), without the bias of few images (:func:`unbiased`); without draws, nothing is computed.

        Args:
            weights: (B, N).
            kept: as in :meth:`average_precision`.
        """
        if not len(weights):
            return np.zeros(0)
        count = weights.shape[1]
        value = self.average_precision(np.ones(count, np.int64), kept)
        halves = halve_images(count, SPLITS, self.clips)
        return unbiased(self.resample(weights, kept), value, self.resample(halves, kept))


def pools(samples: Iterable[ImageMatches], importance: Floats | None = None) -> dict[str, Pool]:
    """The pools of boxes and, where all images have them, of masks and keypoints, as in :func:`evaluate`."""
    samples = sorted(samples, key=lambda one: one.image)
    ids = np.array([one.image for one in samples], np.int64)
    clips = None
    if any(one.clip is not None for one in samples):  # a still is a clip of its own, of a number that no video has
        clips = np.array([~one.image if one.clip is None else one.clip for one in samples], np.int64)
    return {kind: _pool(ids, matches, importance, clips) for kind, matches in _kinds(samples).items()}


def _pool(ids: Ints, images: Sequence[Mapping[int, Matches]], importance: Floats | None, clips: Ints | None) -> Pool:
    categories: dict[int, list[tuple[int, Matches]]] = {}
    for place, matches in enumerate(images):
        for category, cell in matches.items():
            categories.setdefault(category, []).append((place, cell))
    # Categories without objects have no precision, and are left out.
    parts = [cells for _, cells in sorted(categories.items()) if any(cell.objects[0] for _, cell in cells)]
    objects = np.zeros((len(parts), len(ids)), np.int32)
    image_parts, fates = [np.zeros(0, np.int32)], [np.zeros((0, len(IOUS)), np.uint8)]
    for k, cells in enumerate(parts):
        for place, cell in cells:
            objects[k, place] = cell.objects[0]
        scores = np.concatenate([cell.scores for _, cell in cells])
        places = np.repeat([place for place, _ in cells], [len(cell.scores) for _, cell in cells])
        fate = np.concatenate([_TRUE * cell.true[0] + _FALSE * cell.false[0] for _, cell in cells], axis=-1)
        order = np.argsort(-scores, kind="stable")
        image_parts.append(places[order].astype(np.int32))
        fates.append(fate.T[order].astype(np.uint8))
    starts = np.cumsum([len(part) for part in image_parts])
    fate = np.ascontiguousarray(np.concatenate(fates))
    return Pool(ids, starts, np.concatenate(image_parts), fate, objects, importance, clips)


@numba.njit(cache=True, nogil=True)
def _precision(
    starts: Ints,
    image: npt.NDArray[np.int32],
    fate: npt.NDArray[np.uint8],
    objects: npt.NDArray[np.int32],
    of_objects: Ints,
    of_detections: Ints,
    recalls: Floats,
    out: Floats,
) -> None:
    """Interpolated precision (T, R, K) at each recall; -1 for a category without objects.

    Recall grows only where an object is found, and precision is highest there: the other ranks need not be kept.
    """
    spacing = 2.0**-52
    reached, best = np.empty(len(image)), np.empty(len(image))
    for k in range(len(objects)):
        wanted = 0
        for n in range(objects.shape[1]):
            wanted += of_objects[n] * objects[k, n]
        if wanted == 0:
            out[:, :, k] = -1
            continue
        for t in range(out.shape[0]):
            hits, false_alarms, count = 0, 0, 0
            for d in range(starts[k], starts[k + 1]):
                weight = of_detections[image[d]]
                if weight == 0 or fate[d, t] == 0:
                    continue
                if fate[d, t] == 1:
                    hits += weight
                    reached[count] = hits / wanted
                    best[count] = hits / (false_alarms + hits + spacing)
                    count += 1
                else:
                    false_alarms += weight
            for m in range(count - 2, -1, -1):
                best[m] = max(best[m], best[m + 1])
            m = 0
            for r in range(len(recalls)):
                while m < count and reached[m] < recalls[r]:
                    m += 1
                out[t, r, k] = best[m] if m < count else 0.0


# The evaluator.

_LABELS = (
    *("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"),
    *("AR of 1", "AR of 10", "AR of 100", "AR small", "AR medium", "AR large"),
)
_KEYPOINT_LABELS = ("AP", "AP50", "AP75", "AP medium", "AP large", "AR", "AR50", "AR75", "AR medium", "AR large")


@register_evaluator
class CocoEvaluator(Evaluator[ImageMatches]):
    """COCO's metrics of keypoints, masks and boxes, whatever the model has; the first of these leads.

    Args:
        importance: as in :func:`evaluate`.
    """

    figures = tuple(
        Figure(f"{kind}.{name}", f"{title} {label}", "%", 100)
        for kind, title, names, labels in (
            ("keypoints", "keypoint", KEYPOINT_METRICS, _KEYPOINT_LABELS),
            ("segm", "mask", METRICS, _LABELS),
            ("bbox", "box", METRICS, _LABELS),
        )
        for name, label in zip(names, labels, strict=True)
    )
    primary = "keypoints.AP"

    def __init__(self, importance: Floats | None = None) -> None:
        self._importance = importance

    def update(self, item: ItemId, truth: ItemTruth, prediction: Sequence[Detection]) -> ImageMatches:
        """See the base class."""
        return match_image(truth, prediction)

    def compute(self, samples: Sequence[ImageMatches]) -> dict[str, float | None]:
        """See the base class."""
        metrics = score(samples, self._importance)
        kinds = {"bbox": metrics.bbox, "segm": metrics.segm or {}, "keypoints": metrics.keypoints or {}}
        return {f"{kind}.{name}": value for kind, scores in kinds.items() for name, value in scores.items()}

    def resamplers(self, samples: Sequence[ImageMatches]) -> dict[str, Pool]:
        """See the base class."""
        return pools(samples, self._importance)

    def against_clean(self) -> CocoEvaluator:
        """See the base class."""
        return CocoEvaluator(CLEAN_IMPORTANCE)
