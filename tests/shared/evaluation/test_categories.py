"""Labels are matched to categories by name: a number alone may mean something else."""

from __future__ import annotations

import pytest

from featlink.shared.errors import ConflictError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.categories import match
from featlink.shared.evaluation.coco import Category, Detection

NAMES = ["__background__", "person", "bicycle", "N/A", "traffic light", "cat"]
NUMBERS = [str(label) for label in range(6)]


def found(*labels: int) -> list[Detection]:
    return [{"image_id": 1, "category_id": label, "bbox": [0, 0, 1, 1], "score": 0.5} for label in labels]


def ids(categories: list[Category], *labels: int, names: list[str] = NAMES) -> list[int]:
    return [one["category_id"] for one in match(categories, names).apply(found(*labels))]


def test_the_same_numbers_and_names_stay() -> None:
    same = [Category(1, "person"), Category(4, "Traffic_Light"), Category(5, "cat")]
    assert match(same, NAMES).ids is None
    assert ids(same, 1, 2, 4, 5) == [1, 2, 4, 5]  # the evaluator leaves out what the data set does not have


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_in_sequence_are_matched_by_name(first: int) -> None:
    names = ["person", "bicycle", "traffic light", "cat"]
    dense = [Category(number, name) for number, name in enumerate(names, start=first)]
    assert ids(dense, 1, 2, 4, 5) == [first, first + 1, first + 2, first + 3]
    assert ids(dense, 3) == []


def test_what_another_category_has_the_number_of_is_left_out() -> None:
    mixed = [Category(1, "cat"), Category(2, "bolt")]
    labels = match(mixed, NAMES)
    assert ids(mixed, 5, 1, 2) == [1]
    assert [one.name for one in labels.unknown] == ["bolt"]


def test_strangers_are_refused_with_both_lists() -> None:
    with pytest.raises(
        ConflictError, match=r"these are bolt, nut; the model's are person, bicycle, traffic light, cat"
    ):
        match([Category(1, "bolt"), Category(2, "nut")], NAMES)
    with pytest.raises(ConflictError, match="two categories of the data set are named 'cat'"):
        match([Category(1, "cat"), Category(2, "Cat")], NAMES)


def test_without_names_numbers_are_labels() -> None:
    bare = [Category(1), Category(5), Category(9)]
    assert match(bare, NAMES).ids is None
    assert [one.id for one in match(bare, NAMES).unknown] == [9]
    assert match([Category(1, "bolt"), Category(2, "nut")], NUMBERS).ids is None
    assert match([Category(1, "bolt")], []).unknown == ()


def test_objects_of_unknown_categories_are_counted() -> None:
    box = {"image_id": 1, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0}
    truth = coco.parse(
        {
            "images": [{"id": 1, "width": 8, "height": 6}],
            "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "drone"}],
            "annotations": [{"id": n, "category_id": c, **box} for n, c in enumerate([1, 90, 90])],
        }
    )
    told = match(truth.categories, NAMES).missed(truth)
    assert told == "1 of 2 categories are unknown to the model; their 2 objects count as missed: drone"
    assert match(truth.categories[:1], NAMES).missed(truth) is None
