"""COCO files as annotation tools write them are read; what could mean several things is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from featlink.shared.errors import DatasetError
from featlink.shared.evaluation import coco
from featlink.shared.models.rle import run_lengths

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
POINTS = [[2.0, 3.0], [12.0, 3.0], [12.0, 11.0], [2.0, 11.0]]
Change = Callable[[dict[str, Any]], object]


def each(change: Change) -> Change:
    return lambda data: [change(one) for one in data["annotations"]]


def first(**fields: Any) -> Change:
    return lambda data: data["annotations"][0].update(fields)


def text_ids(data: dict[str, Any], form: str) -> None:
    for one in data["images"]:
        one["id"] = form.format(one["id"])
    for one in data["annotations"]:
        one["image_id"] = form.format(one["image_id"])


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
    (
        "a third boxes",
        changed(lambda d: [one.update(segmentation=[]) for one in d["annotations"][::3]]),
        "object without an outline, which got its box's (4)",
    ),
    ("points", changed(each(lambda one: one.update(segmentation=POINTS))), "outline given as points (12)"),
    ("one of points", changed(first(segmentation=POINTS)), "outline given as points (1)"),
    ("lists of points", changed(first(segmentation=[POINTS])), "outline given as points (1)"),
    ("x and y", changed(first(segmentation=[{"x": x, "y": y} for x, y in POINTS])), "outline given as points (1)"),
    ("no box", changed(each(lambda one: one.pop("bbox"))), "missing bbox (12)"),
    ("numbers as text", changed(first(bbox=[str(one) for one in BOX], area="80")), "bbox that is text (1)"),
    ("NaN for a box", changed(first(bbox=[float("nan")] * 4)), "missing bbox (1)"),
    ("NaN for an area", changed(first(area=float("nan"))), "missing area (1)"),
    (
        "filtered images",
        changed(lambda d: d["annotations"].append({**d["annotations"][0], "id": 13, "image_id": 77})),
        "object of an image that is not listed (1)",
    ),
    ("text ids", changed(lambda d: text_ids(d, "{:012d}")), "image_id that is text (12), id that is text (1)"),
    ("names for ids", changed(lambda d: text_ids(d, "cam-{}")), "image id that is a name, numbered from 1 on (1)"),
    ("annotations' names", changed(each(lambda one: one.update(id=f"a-{one['id']}"))), "id that is a name (12)"),
    ("sizes as text", changed(lambda d: d["images"][0].update(width="40", height="30")), "height that is text (1)"),
    ("an image twice", changed(lambda d: d["images"].append(dict(d["images"][0]))), "image entry that is there twice"),
    ("NaN aside", changed(lambda d: d["images"][0].update(license=float("nan"))), "NaN, which is not JSON (1)"),
    (
        "a root of a class's name",
        changed(lambda d: d["categories"].insert(0, {"id": 0, "name": "Car", "supercategory": "none"})),
        "category without objects that has another's name (1)",
    ),
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
        (lambda d: d["images"][0].update(id="1.jpg"), "annotation 1: there is no image 1"),
        (first(image_id="1.jpg"), "Expected `int`, got `str`"),
        (first(bbox=[1, 1, float("nan"), 2], segmentation=[]), "annotation 1: bbox"),
        (first(bbox=["1", "1", "wide", "2"]), "Expected `float`, got `str`"),
        (lambda d: d["images"][0].update(width=None), "Expected `int`, got `null`"),
        (first(bbox=[1, 1, -5, 2]), "annotation 1: bbox"),
        (first(image_id=7.5), "Expected `int`, got `float`"),
        (each(lambda one: one.update(image_id=77)), "there is no image 77"),
        (lambda d: d["categories"].clear(), "there is no category 3"),
        (first(segmentation=[], bbox=None), "Expected `array`, got `null`"),
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


def test_no_repair_loses_an_object() -> None:
    """Outlines without an inside, all of them: the objects stay, as boxes, and the message says so."""
    truth, repairs = coco.read(changed(each(lambda one: one.update(segmentation=[[1, 1, 2, 2]]))))
    assert [one.bbox for one in truth.annotations] == [tuple(BOX)] * 12
    assert not truth.has_masks
    assert repairs == "outline of less than three points (12)"


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=4, max_size=4), st.booleans())
def test_boxes_around_masks_are_pycocotools(rows: list[list[bool]], as_text: bool) -> None:
    mask = np.asfortranarray(np.array(rows, np.uint8))
    code: Any = mask_api.encode(mask)
    outline = {"size": [4, 5], "counts": code["counts"].decode()}
    if not as_text:
        outline["counts"] = run_lengths(outline["counts"])
    data = {**copy.deepcopy(BASE), "images": [{"id": 1, "width": 5, "height": 4}]}
    data["annotations"] = [{"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": outline}]
    [one] = coco.read(data)[0].annotations
    assert (list(one.bbox), one.area) == (mask_api.toBbox(code).tolist(), mask.sum())


def test_the_size_of_a_picture_stands_in_for_a_missing_one() -> None:
    data = changed(lambda d: d["images"][0].update(width=None, height=None))
    truth, repairs = coco.read(data, {1: (40, 30)}.get)
    assert (truth, repairs) == (PLAIN, "size of an image, which is its picture's (1)")


def test_categories_without_a_name() -> None:
    truth, repairs = coco.read(changed(lambda d: d["categories"][0].update(name=None)))
    assert (truth.categories[0].name, repairs) == ("", "category without a name (1)")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 50) | st.floats() | st.sampled_from(["", "1", "cam", "9" * 30]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "y", "size", "counts"]), inner),
    max_leaves=8,
)


@given(st.data())
def test_whatever_a_file_has_it_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    wrong = copy.deepcopy(BASE)
    for _ in range(data.draw(st.integers(1, 3))):
        entry = data.draw(
            st.sampled_from([wrong, wrong["images"][0], wrong["categories"][0], *wrong["annotations"][:3]])
        )
        key = data.draw(st.sampled_from(sorted(set(entry) - {"images", "categories", "annotations"} or ["info"])))
        entry[key] = data.draw(VALUES)
    try:
        truth, _ = coco.read(json.dumps(wrong).encode())
    except DatasetError as error:
        lines, objects = len(str(error).splitlines()), 12
    else:
        lines, objects = 1, len(truth.annotations)
    assert (lines, objects) == (1, 12)
