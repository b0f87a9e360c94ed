"""COCO metrics: the 12 box and 12 mask numbers, equal to pycocotools' ``COCOeval`` to the last digit.

pycocotools' evaluator loops in Python over every category × image × area, prints, and writes into its
inputs. This one does the same arithmetic on arrays, all areas and IoU thresholds at once, visits only
pairs of image and category that have objects or detections, and shares no state. IoU itself is
pycocotools' C code. The protocol is that of https://cocodataset.org/#detection-eval.

One difference is meant: an annotation of id 0 counts. pycocotools takes a match with it for no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_api

from cloud.coco import Annotation, Detection, GroundTruth, Image, Rle

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Names of the 12 numbers in COCO's order; s, m, l are small, medium and large objects."""

_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_AREAS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])  # all, small, medium, large
_MAX_DETECTIONS = (1, 10, 100)

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Scores = dict[str, float | None]
_IouFunction = Callable[[list[Detection], list[Annotation], Image], Floats]


@dataclass(frozen=True)
class Metrics:
    """COCO metrics of a set of detections.

    Attributes:
        bbox: value in [0, 1] by name (:data:`METRICS`); None where there is no object to find.
        segm: the same for masks; None unless the ground truth and every detection have masks.
    """

    bbox: Scores
    segm: Scores | None


@dataclass
class _Cell:
    """What one image has of one category."""

    image: Image
    detections: list[Detection] = field(default_factory=list)
    objects: list[Annotation] = field(default_factory=list)


@dataclass(frozen=True)
class _Matches:
    """How a cell's detections fare, per area range A and IoU threshold T.

    Attributes:
        scores: (D,), best first, at most 100.
        true: (A, T, D), detections that find an object which counts.
        false: (A, T, D), detections that find nothing; those in neither are ignored.
        objects: (A,), how many objects count.
    """

    scores: Floats
    true: Bools
    false: Bools
    objects: Ints


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
        >>> from cloud import coco
        >>> box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [2, 2, 8, 8], "area": 64, "iscrowd": 0}
        >>> truth = coco.parse(
        ...     {"images": [{"id": 1, "width": 20, "height": 20}], "categories": [{"id": 3}], "annotations": [box]}
        ... )
        >>> found: Detection = {"image_id": 1, "category_id": 3, "bbox": [2, 2, 8, 7], "score": 0.5}
        >>> metrics = evaluate(truth, [found], [1])
        >>> round(metrics.bbox["AP"], 3), metrics.bbox["APl"], metrics.segm
        (0.8, None, None)
    """
    images = {image.id: image for image in truth.images}
    wanted = set(image_ids)
    if unknown := wanted - images.keys():
        raise ValueError(f"image {min(unknown)} is not in the data set")
    cells: dict[int, dict[int, _Cell]] = {category.id: {} for category in truth.categories}

    def cell_of(category_id: int, image_id: int) -> _Cell:
        return cells[category_id].setdefault(image_id, _Cell(images[image_id]))

    has_masks = truth.has_masks
    for annotation in truth.annotations:
        if annotation.image_id in wanted:
            cell_of(annotation.category_id, annotation.image_id).objects.append(annotation)
    for detection in detections:
        if detection["image_id"] in wanted and detection["category_id"] in cells:
            cell_of(detection["category_id"], detection["image_id"]).detections.append(detection)
            has_masks = has_masks and "segmentation" in detection

    # By id, as pycocotools: images, as that decides between equal scores, and categories, for equal rounding.
    categories = [[cell for _, cell in sorted(of_image.items())] for _, of_image in sorted(cells.items())]
    return Metrics(bbox=_scores(categories, _box_iou), segm=_scores(categories, _mask_iou) if has_masks else None)


def _scores(categories: list[list[_Cell]], iou: _IouFunction) -> Scores:
    curves = [_curves([_match_cell(cell, iou) for cell in cells]) for cells in categories if cells]
    precision = np.array([precision for precision, _ in curves]).reshape(-1, len(_AREAS), len(_IOUS), len(_RECALLS))
    recall = np.array([recall for _, recall in curves]).reshape(-1, len(_AREAS), len(_MAX_DETECTIONS), len(_IOUS))
    ap = [_mean(precision[:, area].transpose(1, 2, 0)) for area in range(len(_AREAS))]
    ap_at = [_mean(precision[:, 0, threshold].T) for threshold in (0, 5)]
    ar_all = [_mean(recall[:, 0, most].T) for most in range(len(_MAX_DETECTIONS))]
    ar_sized = [_mean(recall[:, area, -1].T) for area in range(1, len(_AREAS))]
    return dict(zip(METRICS, [ap[0], *ap_at, *ap[1:], *ar_all, *ar_sized], strict=True))


def _mean(values: Floats) -> float | None:
    """Mean of the entries that exist (are not -1); axes in pycocotools' order, so sums round the same."""
    existing = values[values > -1]
    return float(existing.mean()) if existing.size else None


def _curves(cells: list[_Matches]) -> tuple[Floats, Floats]:
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
    precision = np.full((len(_AREAS), len(_IOUS), len(_RECALLS)), -1.0)
    recall = np.full((len(_AREAS), len(_MAX_DETECTIONS), len(_IOUS)), -1.0)
    for area in np.flatnonzero(objects):
        hits, false_alarms = true[area][:, order].cumsum(axis=1), false[area][:, order].cumsum(axis=1)
        reached = hits / objects[area]
        envelope = np.zeros((len(_IOUS), len(scores) + 1))  # beyond the last recall reached, precision is 0
        envelope[:, :-1] = hits / (false_alarms + hits + np.spacing(1))
        envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
        for threshold in range(len(_IOUS)):
            precision[area, threshold] = envelope[threshold, reached[threshold].searchsorted(_RECALLS)]
        for index, most in enumerate(_MAX_DETECTIONS):
            recall[area, index] = true[area][:, rank < most].sum(axis=1) / objects[area]
    return precision, recall


def _match_cell(cell: _Cell, iou: _IouFunction) -> _Matches:
    detections = sorted(cell.detections, key=lambda one: -one["score"])[: _MAX_DETECTIONS[-1]]
    crowd = np.array([one.iscrowd == 1 for one in cell.objects], dtype=bool)
    ignored = crowd | _outside([one.area for one in cell.objects])
    outside = _outside([one["bbox"][2] * one["bbox"][3] for one in detections])[:, None, :]
    if detections and cell.objects:
        found, found_ignored = _match(iou(detections, cell.objects, cell.image), crowd, ignored)
    else:
        found = found_ignored = np.zeros((len(_AREAS), len(_IOUS), len(detections)), dtype=bool)
    return _Matches(
        scores=np.array([one["score"] for one in detections], dtype=np.float64),
        true=found & ~found_ignored,
        false=~found & ~outside,
        objects=(~ignored).sum(axis=1),
    )


def _outside(areas: list[float]) -> Bools:
    """Which of N areas lie outside each area range; (A, N)."""
    pixels = np.array(areas, dtype=np.float64)
    return (pixels < _AREAS[:, :1]) | (pixels > _AREAS[:, 1:])


def _match(ious: Floats, crowd: Bools, ignored: Bools) -> tuple[Bools, Bools]:
    """Give each detection, best first, the free object it overlaps most; one that counts, if any does.

    Args:
        ious: (D, G) of detections and objects.
        crowd: (G,), objects that stay free when matched.
        ignored: (A, G), objects that do not count in an area range.

    Returns:
        Which detections find an object, and which find one that does not count; each (A, T, D).
    """
    lanes = np.arange(len(_AREAS) * len(_IOUS))  # every area range at every threshold, side by side
    least = np.tile(_IOUS, len(_AREAS))[:, None]
    ignored = ignored.repeat(len(_IOUS), axis=0)
    taken = np.zeros_like(ignored)
    found, found_ignored = np.zeros((2, len(lanes), len(ious)), dtype=bool)
    preference = ious.argsort(axis=1, kind="stable").argsort(axis=1)  # of equal IoU, the last object is preferred
    bonus = len(crowd) * ~ignored  # any object that counts is preferred to all that do not
    for index in np.flatnonzero(ious.max(axis=1) >= _IOUS[0]):
        fits = (ious[index] >= least) & ~taken
        best = np.where(fits, preference[index] + bonus, -1).argmax(axis=1)
        hit = fits[lanes, best]
        found[:, index] = hit
        found_ignored[:, index] = hit & ignored[lanes, best]
        taken[lanes, best] |= hit & ~crowd[best]
    shape = (len(_AREAS), len(_IOUS), len(ious))
    return found.reshape(shape), found_ignored.reshape(shape)


def _box_iou(detections: list[Detection], objects: list[Annotation], image: Image) -> Floats:
    boxes = np.array([one["bbox"] for one in detections], dtype=np.float64)
    return _iou(boxes, np.array([one.bbox for one in objects]), objects)


def _mask_iou(detections: list[Detection], objects: list[Annotation], image: Image) -> Floats:
    return _iou([one["segmentation"] for one in detections], [_rle(one, image) for one in objects], objects)


def _iou(found: object, wanted: object, objects: list[Annotation]) -> Floats:
    """Shape (D, G); for a crowd, the intersection over the detection's own area."""
    ious: Floats = mask_api.iou(found, wanted, [one.iscrowd for one in objects])
    return ious


def _rle(annotation: Annotation, image: Image) -> object:
    """The annotation's mask as the compressed RLE that pycocotools works on."""
    segmentation = annotation.segmentation
    if isinstance(segmentation, Rle):
        rle = {"size": list(segmentation.size), "counts": segmentation.counts}
        return rle if isinstance(segmentation.counts, str) else mask_api.frPyObjects(rle, image.height, image.width)
    return mask_api.merge(mask_api.frPyObjects(segmentation, image.height, image.width))
