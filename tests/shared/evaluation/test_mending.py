"""COCO files as annotation tools write them are read; what could mean several things is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from featlink.shared.errors import DatasetError
from featlink.shared.evaluation import coco

BOX = [2.0, 3.0, 10.0, 8.0]
OUTLINE = [2.0, 3.0, 12.0, 3.0, 12.0, 11.0, 2.0, 11.0]
BASE: dict[str, Any] = {
    "images": [{"id": 1, "width": 40, "height": 30, "file_name": "1.jpg"}],
    "categories": [{"id": 3, "name": "car"}],
    "annotations": [
        {
            "id": number,
            "image_id": 1,
            "category_id": 3,
            "iscrowd": 0,
            "area": 80,
            "bbox": BOX,
            "segmentation": [OUTLINE],
        }
        for number in range(1, 13)
    ],
}
Change = Callable[[dict[str, Any]], object]


def each(change: Change) -> Change:
    return lambda data: [change(one) for one in data["annotations"]]


def first(**fields: Any) -> Change:
    return lambda data: data["annotations"][0].update(fields)


def changed(change: Change) -> bytes:
    data = copy.deepcopy(BASE)
    change(data)
    return json.dumps(data).encode()


PLAIN = coco.parse(json.dumps(BASE).encode())
SAME: list[tuple[str, bytes, str]] = [
    ("no iscrowd", changed(each(lambda one: one.pop("iscrowd"))), "missing iscrowd (12)"),
    ("no area", changed(each(lambda one: one.pop("area"))), "missing area (12)"),
    ("iscrowd true or false", changed(each(lambda one: one.update(iscrowd=False))), "iscrowd that is no integer (12)"),
    ("ids of a table", changed(each(lambda one: one.update(image_id=1.0))), "image_id that is no integer (12)"),
    ("sizes of a table", changed(lambda d: d["images"][0].update(width=40.0)), "width that is no integer (1)"),
    ("outline not in a list", changed(first(segmentation=OUTLINE)), "outline that is not in a list (1)"),
    ("a line among outlines", changed(first(segmentation=[OUTLINE, [1, 1, 2, 2]])), "less than three points (1)"),
    ("one empty outline", changed(first(segmentation=[])), "without an outline, which got its box's (1)"),
    ("a line alone", changed(first(segmentation=[[1, 1, 2, 2]])), "without an outline, which got its box's (1)"),
    ("one null outline", changed(first(segmentation=None)), "without an outline, which got its box's (1)"),
    ("one id for all", changed(each(lambda one: one.update(id=0))), "annotation id that is not its own (11)"),
    ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(BASE).encode(), "byte order mark (1)"),
    ("UTF-16", json.dumps(BASE).encode("utf-16"), "text that is not UTF-8 (1)"),
]


@pytest.mark.parametrize(("data", "told"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_it_is_read_as_it_was_meant_and_the_repairs_are_counted(data: bytes, told: str) -> None:
    truth, repairs = coco.read(data)
    assert told in repairs
    assert truth == PLAIN


def test_nothing_is_said_of_a_good_file() -> None:
    assert coco.read(json.dumps(BASE).encode()) == (PLAIN, "")
    assert coco.read(BASE) == (PLAIN, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["images"][0].update(id="1.jpg"), "Expected `int`, got `str` - at `$.images[0].id`"),
        (first(image_id="1"), "Expected `int`, got `str`"),
        (first(bbox=[1, 1, -5, 2]), "annotation 1: bbox"),
        (first(image_id=7.5), "Expected `int`, got `float`"),
        (first(image_id=77), "there is no image 77"),
        (lambda d: d["categories"].clear(), "there is no category 3"),
        (lambda d: [one.update(segmentation=[]) for one in d["annotations"][:6]], "either every annotation has"),
        (lambda d: d.update(annotations=3), "Expected `array`"),
    ],
)
def test_what_is_unclear_is_refused(change: Change, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        coco.read(changed(change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe{", b"\xef\xbb\xbf[]", b"[1, 2]", b'{"images": 1}', b"\xef\xbb\xbf{"])
def test_what_is_no_ground_truth_is_refused(data: bytes) -> None:
    with pytest.raises(DatasetError):
        coco.read(data)


def test_areas_are_those_of_outlines_crowds_and_boxes() -> None:
    runs = {"size": [30, 40], "counts": [100, 50, 1000, 20, 30]}
    data = copy.deepcopy(BASE)
    data["annotations"][0] |= {"segmentation": runs, "iscrowd": 1}
    for one in data["annotations"]:
        del one["area"]
    truth, _ = coco.read(data)
    assert [one.area for one in truth.annotations[:2]] == [70, 80]
    for one in data["annotations"]:
        del one["segmentation"]
    assert coco.read(data)[0].annotations[0].area == 80
