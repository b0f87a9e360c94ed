"""AP of reweighted images, fast enough for a bootstrap: matching is done once, each draw only counts anew.

An image that is drawn twice weighs two, one that is not drawn nothing. Its objects and its detections have weights of
their own, so that a detection which comes too late can be taken away while what it should have found stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from featlink.shared.evaluation.coco_metrics import RECALLS, mean_existing
from featlink.shared.evaluation.matching import IOUS, Floats, Ints, Matches

_TRUE, _FALSE = 1, 2


@dataclass(frozen=True, eq=False)
class Pool:
    """All detections of one kind (boxes or masks) over all sizes of objects, with how they fare.

    Attributes:
        images: (N,) ids, rising.
        starts: (K + 1,), where each category's detections begin.
        image: (D,) int32, position in ``images``; by category, within one by falling score.
        fate: (D, T) uint8 by IoU threshold: 1 finds an object, 2 finds nothing, 0 does not count.
        objects: (K, N) int32, how many objects count.
        importance: (T,) weights of the IoU thresholds in AP; None: COCO's, all the same.
    """

    images: Ints
    starts: Ints
    image: npt.NDArray[np.int32]
    fate: npt.NDArray[np.uint8]
    objects: npt.NDArray[np.int32]
    importance: Floats | None = None


def pool(categories: Sequence[Sequence[Matches]], images: Sequence[int], importance: Floats | None = None) -> Pool:
    """Order what :func:`featlink.shared.evaluation.matching.match` found.

    Args:
        categories: of boxes or of masks; those without objects, which AP leaves out, are left out.
        images: ids of the images that were matched, also those that have nothing.
        importance: of the IoU thresholds.
    """
    ids = np.array(sorted(images), np.int64)
    where = {image: place for place, image in enumerate(ids.tolist())}
    categories = [cells for cells in categories if any(cell.objects[0] for cell in cells)]  # the rest has no precision
    objects = np.zeros((len(categories), len(ids)), np.int32)
    image_parts, fates = [np.zeros(0, np.int32)], [np.zeros((0, len(IOUS)), np.uint8)]
    for k, cells in enumerate(categories):
        for cell in cells:
            objects[k, where[cell.image]] = cell.objects[0]
        scores = np.concatenate([cell.scores for cell in cells])
        places = np.repeat([where[cell.image] for cell in cells], [len(cell.scores) for cell in cells])
        fate = np.concatenate([_TRUE * cell.true[0] + _FALSE * cell.false[0] for cell in cells], axis=-1)
        order = np.argsort(-scores, kind="stable")
        image_parts.append(places[order].astype(np.int32))
        fates.append(fate.T[order].astype(np.uint8))
    starts = np.cumsum([len(part) for part in image_parts])
    fate = np.ascontiguousarray(np.concatenate(fates))
    return Pool(ids, starts, np.concatenate(image_parts), fate, objects, importance)


def average_precision(found: Pool, weights: npt.ArrayLike, kept: npt.ArrayLike | None = None) -> float | None:
    """COCO's AP over images that have weights.

    Args:
        found: detections and objects.
        weights: (N,) how often each image counts, whole numbers from 0 on.
        kept: (N,) 1 where the image's detections count, 0 where they came to nothing; default: all do.

    Returns:
        In 0..1; with weights of 1 the very number that :func:`featlink.shared.evaluation.coco_metrics.score` gives.
        None without objects.
    """
    of_objects = np.asarray(weights, np.int64)
    of_detections = of_objects if kept is None else of_objects * np.asarray(kept, np.int64)
    precision = np.empty((len(IOUS), len(RECALLS), len(found.objects)))
    _precision(found.starts, found.image, found.fate, found.objects, of_objects, of_detections, RECALLS, precision)
    return mean_existing(precision, found.importance)


def resample(found: Pool, draws: Ints, kept: npt.ArrayLike | None = None) -> Floats:
    """AP of every draw.

    Args:
        found: detections and objects.
        draws: (B, N) weights.
        kept: as in :func:`average_precision`.

    Returns:
        (B,), NaN for a draw without objects.
    """
    values = (average_precision(found, draw, kept) for draw in draws)
    return np.array([np.nan if value is None else value for value in values])


def draw_images(count: int, draws: int, seed: int = 0) -> Ints:
    """Bootstrap draws of ``count`` images with replacement, as weights.

    The same for every condition of a sweep, so that differences are of the same images.

    Returns:
        (``draws``, ``count``); each row adds up to ``count``.

    Example:
        >>> draw_images(4, 2).sum(axis=1).tolist()
        [4, 4]
    """
    rng = np.random.default_rng(seed)
    weights: Ints = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.int64)
    return weights


def halve_images(count: int, splits: int, seed: int = 0) -> Ints:
    """Random halves of ``count`` images, as weights of 0 and 1.

    Returns:
        (2 · ``splits``, ``count``); rows 2i and 2i + 1 are the two halves of one split.

    Example:
        >>> halve_images(4, 1).sum(axis=0).tolist(), halve_images(5, 1).sum(axis=1).tolist()
        ([1, 1, 1, 1], [2, 3])
    """
    rng = np.random.default_rng(seed)
    first = np.array([rng.permutation(count) < count // 2 for _ in range(splits)], np.int64).reshape(splits, count)
    return np.stack([first, 1 - first], axis=1).reshape(2 * splits, count)


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
