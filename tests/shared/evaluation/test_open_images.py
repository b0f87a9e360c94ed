"""Open Images' figure on cases that can be counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api

from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import Detection, parse
from featlink.shared.evaluation.open_images import OpenImagesEvaluator, Sample

ANIMAL, DOG, CAR = 1, 2, 3
Box = tuple[float, float, float, float]


def samples(
    objects: list[tuple[int, int, Box, int]], found: list[tuple[int, int, Box, float]], verified: dict[int, list[int]]
) -> list[Sample]:
    """Of images 1, 2, …: objects are (image, class, box, group), detections (image, class, box, score)."""
    truth = parse(
        {
            "images": [{"id": i, "width": 100, "height": 100, "verified": labels} for i, labels in verified.items()],
            "categories": [{"id": ANIMAL}, {"id": DOG, "parents": [ANIMAL]}, {"id": CAR}],
            "annotations": [
                {
                    "id": number,
                    "image_id": image,
                    "category_id": category,
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": group,
                }
                for number, (image, category, box, group) in enumerate(objects, 1)
            ],
        }
    )
    detections: list[Detection] = [
        {"image_id": image, "category_id": category, "bbox": list(box), "score": score}
        for image, category, box, score in found
    ]
    judge = OpenImagesEvaluator()
    return [
        judge.update(one.image.item, one, [d for d in detections if d["image_id"] == image])
        for image, one in coco.items(truth).items()
    ]


def figure(made: list[Sample]) -> float | None:
    return OpenImagesEvaluator().compute(made)["openimages.mAP50"]


HERE: Box = (10, 10, 20, 20)
THERE: Box = (60, 60, 20, 20)
GROUP: Box = (0, 0, 50, 50)


def test_precision_is_averaged_over_recall() -> None:
    made = samples(
        [(1, CAR, HERE, 0), (2, CAR, HERE, 0)],
        [(1, CAR, HERE, 0.9), (1, CAR, THERE, 0.8), (2, CAR, HERE, 0.7)],
        {1: [CAR], 2: [CAR]},
    )
    assert figure(made) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_an_object_is_found_once_and_a_doubled_detection_is_false() -> None:
    objects = [(1, CAR, HERE, 0), (1, CAR, THERE, 0)]
    doubled = [(1, CAR, HERE, 0.9), (1, CAR, (11, 10, 20, 20), 0.8), (1, CAR, THERE, 0.7)]
    assert figure(samples(objects, doubled, {1: [CAR]})) == pytest.approx(0.5 + 0.5 * 2 / 3)
    loose = [(1, CAR, (10, 10, 20, 9.9), 0.9), (1, CAR, (60, 60, 20, 10), 0.8)]  # IoU below 0.5, and just that
    assert figure(samples(objects, loose, {1: [CAR]})) == pytest.approx(0.5 * 1 / 2)


def test_a_child_has_to_be_found_as_its_parent_too() -> None:
    objects, dogs = [(1, DOG, HERE, 0)], [(1, DOG, HERE, 0.9)]
    assert figure(samples(objects, dogs, {1: [DOG]})) == pytest.approx(0.5), "as a dog, but not as an animal"
    both = [*dogs, (1, ANIMAL, HERE, 0.5)]
    assert figure(samples(objects, both, {1: [DOG]})) == 1
    alone = [(1, ANIMAL, HERE, 0)]
    assert figure(samples(alone, both, {1: [ANIMAL]})) == 1, "nobody looked for dogs, so one found is neither"


def test_what_nobody_looked_for_does_not_count() -> None:
    objects = [(1, CAR, HERE, 0)]
    found = [(2, CAR, HERE, 0.95), (1, CAR, HERE, 0.9)]
    assert figure(samples(objects, found, {1: [CAR], 2: []})) == 1
    assert figure(samples(objects, found, {1: [CAR], 2: [CAR]})) == pytest.approx(0.5), "looked for, and not there"


@pytest.mark.parametrize("count", [1, 5])
def test_a_group_counts_once_however_many_are_in_it(count: int) -> None:
    inside = [(1, CAR, (5.0 + number, 5, 10, 10), 0.9 - number / 10) for number in range(count)]
    assert figure(samples([(1, CAR, GROUP, 1)], inside, {1: [CAR]})) == 1
    mixed = [(1, CAR, GROUP, 1), (1, CAR, THERE, 0)]
    assert figure(samples(mixed, inside, {1: [CAR]})) == pytest.approx(0.5)
    assert figure(samples(mixed, [*inside, (1, CAR, THERE, 0.1)], {1: [CAR]})) == 1
    assert figure(samples([(1, CAR, GROUP, 1)], [], {1: [CAR]})) == 0
    outside = [(1, CAR, (45, 10, 20, 10), 0.9)]  # a quarter of it is in the group
    assert figure(samples([(1, CAR, GROUP, 1)], outside, {1: [CAR]})) == 0


def test_an_object_in_a_group_is_found_first() -> None:
    made = samples([(1, CAR, GROUP, 1), (1, CAR, HERE, 0)], [(1, CAR, HERE, 0.9)], {1: [CAR]})
    assert figure(made) == pytest.approx(0.5), "the object; the group is missed"
    again = samples([(1, CAR, GROUP, 1), (1, CAR, HERE, 0)], [(1, CAR, HERE, 0.9), (1, CAR, HERE, 0.8)], {1: [CAR]})
    assert figure(again) == 1, "a second one there is the group's"


def test_draws_weigh_images() -> None:
    made = samples([(1, CAR, HERE, 0), (2, CAR, HERE, 0)], [(1, CAR, HERE, 0.9)], {1: [CAR], 2: [CAR]})
    drawn = OpenImagesEvaluator().resamplers(made)["openimages"].draws(np.array([[1, 1], [2, 0], [0, 2], [3, 1]]))
    np.testing.assert_allclose(drawn, [0.5, 1, 0, 0.75])


def rectangles(*parts: tuple[int, int, int, int]) -> dict[str, object]:
    """The mask of some rectangles (x, y, width, height) in a picture of 100×100."""
    mask = np.zeros((100, 100), np.uint8, order="F")
    for x, y, width, height in parts:
        mask[y : y + height, x : x + width] = 1
    coded = mask_api.encode(mask)
    return {"size": [100, 100], "counts": coded["counts"].decode()}


@pytest.mark.parametrize(
    ("wanted", "group", "found", "boxes", "masks"),
    [
        ([(10, 10, 20, 20)], 0, [(10, 10, 20, 20)], 1, 1),
        ([(10, 10, 20, 10)], 0, [(10, 10, 20, 20)], 1, 1),  # IoU just 0.5
        ([(10, 10, 20, 9)], 0, [(10, 10, 20, 20)], 1, 0),
        ([(10, 10, 20, 5), (10, 10, 5, 20)], 0, [(10, 25, 20, 5), (25, 10, 5, 20)], 1, 0),  # two L in one box
        ([(0, 0, 50, 50)], 1, [(20, 20, 10, 10)], 1, 1),  # inside a group
        ([(0, 0, 10, 50), (0, 40, 50, 10)], 1, [(20, 20, 10, 10)], 1, 0),  # in the group's box, but in none of it
        ([(0, 0, 25, 50)], 1, [(20, 20, 10, 10)], 1, 1),  # half of it
    ],
)
def test_masks_are_judged_by_their_pixels(
    wanted: list[tuple[int, int, int, int]], group: int, found: list[tuple[int, int, int, int]], boxes: int, masks: int
) -> None:
    """The boxes of objects and detections are those that their cases name, whatever their masks fill of them."""
    box = [0, 0, 50, 50] if group else [10, 10, 20, 20]
    truth = parse(
        {
            "images": [{"id": 1, "width": 100, "height": 100, "verified": [CAR]}],
            "categories": [{"id": CAR}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": CAR, "bbox": box, "area": 400, "iscrowd": group}
                | {"segmentation": rectangles(*wanted)}
            ],
        }
    )
    [one] = coco.items(truth).values()
    where = [20, 20, 10, 10] if group else [10, 10, 20, 20]
    detection: Any = {
        "image_id": 1,
        "category_id": CAR,
        "bbox": where,
        "score": 0.9,
        "segmentation": rectangles(*found),
    }
    judge = OpenImagesEvaluator()
    figures = judge.compute([judge.update(one.image.item, one, [detection])])
    assert figures == {"openimages.mAP50": boxes, "openimages_segm.mAP50": masks}


def test_other_data_sets_have_no_such_figure() -> None:
    truth = parse({"images": [{"id": 1, "width": 9, "height": 9}], "categories": [{"id": 1}], "annotations": []})
    judge = OpenImagesEvaluator()
    [one] = coco.items(truth).values()
    assert judge.compute([judge.update(one.image.item, one, [])]) == {}
