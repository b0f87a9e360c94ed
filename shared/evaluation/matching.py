"""Which detections find which objects: COCO's greedy matching, one cell of image and category at a time.

The arithmetic is pycocotools' ``COCOeval.evaluateImg`` on arrays, all areas and IoU thresholds at once; only cells that
have objects or detections are visited. IoU itself is pycocotools' C code. The protocol is that of
https://cocodataset.org/#detection-eval.

One difference is meant: an annotation of id 0 counts. pycocotools takes a match with it for no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_api

from featlink.shared.evaluation.coco import Annotation, Detection, GroundTruth, Image, Rle

IOUS = np.linspace(0.5, 0.95, 10)
AREAS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])
"""Ranges in pixels²: all, small, medium, large."""
MOST_DETECTIONS = 100
"""Of an image and category; the rest does not count."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_IouFunction = Callable[[list[Detection], list[Annotation], Image], Floats]


@dataclass
class _Cell:
    """What one image has of one category."""

    image: Image
    detections: list[Detection] = field(default_factory=list)
    objects: list[Annotation] = field(default_factory=list)


@dataclass(frozen=True)
class Matches:
    """How a cell's detections fare, per area range A and IoU threshold T.

    Attributes:
        image: the image's id.
        scores: (D,), best first, at most 100.
        true: (A, T, D), detections that find an object which counts.
        false: (A, T, D), detections that find nothing; those in neither are ignored.
        objects: (A,), how many objects count.
    """

    image: int
    scores: Floats
    true: Bools
    false: Bools
    objects: Ints


@dataclass(frozen=True)
class Matched:
    """Every cell of a set of images, by category.

    Attributes:
        bbox: of boxes: categories by rising id, each its cells by rising image id.
        segm: of masks; None unless the ground truth and every detection have masks.
    """

    bbox: Sequence[Sequence[Matches]]
    segm: Sequence[Sequence[Matches]] | None


def match(truth: GroundTruth, detections: Iterable[Detection], image_ids: Iterable[int]) -> Matched:
    """Match detections with objects on some images of a data set.

    As in pycocotools, a detection's area is that of its box, for masks too.

    Args:
        truth: the ground truth; left as it is.
        detections: COCO results; those of other images or unknown categories do not count.
        image_ids: the images.

    Raises:
        ValueError: ``image_ids`` has an id that the data set does not have.
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
    return Matched(_matched(categories, _box_iou), _matched(categories, _mask_iou) if has_masks else None)


def _matched(categories: list[list[_Cell]], iou: _IouFunction) -> list[list[Matches]]:
    return [[_match_cell(cell, iou) for cell in cells] for cells in categories if cells]


def _match_cell(cell: _Cell, iou: _IouFunction) -> Matches:
    detections = sorted(cell.detections, key=lambda one: -one["score"])[:MOST_DETECTIONS]
    crowd = np.array([one.iscrowd == 1 for one in cell.objects], dtype=bool)
    ignored = crowd | _outside([one.area for one in cell.objects])
    outside = _outside([one["bbox"][2] * one["bbox"][3] for one in detections])[:, None, :]
    if detections and cell.objects:
        found, found_ignored = _match(iou(detections, cell.objects, cell.image), crowd, ignored)
    else:
        found = found_ignored = np.zeros((len(AREAS), len(IOUS), len(detections)), dtype=bool)
    return Matches(
        image=cell.image.id,
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
