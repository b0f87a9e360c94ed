"""featlink.shared.evaluation.coco against hand-made mistakes, pycocotools' masks, and a real annotation file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from featlink.shared.errors import DatasetError
from featlink.shared.evaluation.coco import digest, dump, load, parse
from featlink.shared.models.rle import run_lengths

HEIGHT, WIDTH = 6, 8


def ground_truth() -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "images": [
            {"id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "1.jpg"},
            {"id": 2, "width": 9, "height": 9},
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "bus"}],
        "annotations": [
            annotation(10, [[0, 0, 4, 0, 4, 4.5]], area=8.25),
            annotation(11, {"size": [HEIGHT, WIDTH], "counts": [3, 5, 40]}, iscrowd=1),
            annotation(12, compressed(np.eye(HEIGHT, WIDTH))),
        ],
    }


def annotation(id: int, segmentation: object, **changes: object) -> dict[str, Any]:
    fields = {"id": id, "image_id": 1, "category_id": 3, "bbox": [0, 0.5, 4, 4], "area": 5, "iscrowd": 0}
    return fields | {"segmentation": segmentation} | changes


def compressed(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_api.encode(np.asfortranarray(mask, np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def compress(runs: list[int]) -> str:
    counts: bytes = mask_api.frPyObjects({"size": [sum(runs), 1], "counts": runs}, sum(runs), 1)["counts"]
    return counts.decode()


def test_keeps_what_evaluation_needs() -> None:
    truth = parse(ground_truth())
    assert truth == parse(json.dumps(ground_truth(), indent=1).encode())
    assert json.loads(dump(truth)) == {
        "images": [{"id": 1, "width": WIDTH, "height": HEIGHT}, {"id": 2, "width": 9, "height": 9}],
        "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "bus"}],
        "annotations": ground_truth()["annotations"],
    }


def test_same_content_has_the_same_digest() -> None:
    shuffled = dict(reversed(ground_truth().items()))
    shuffled["annotations"] = [dict(reversed(one.items())) for one in shuffled["annotations"]]
    canonical = dump(parse(ground_truth()))
    assert dump(parse(shuffled)) == canonical
    assert dump(load(canonical)) == canonical
    moved = ground_truth()
    moved["annotations"][0]["segmentation"][0][5] = np.nextafter(4.5, 5).item()
    assert digest(dump(parse(moved))) != digest(canonical)


@pytest.mark.parametrize("segmentation", [None, []])
def test_boxes_without_masks(segmentation: object) -> None:
    boxes = ground_truth()
    for one in boxes["annotations"]:
        one["segmentation"] = segmentation
    assert not parse(boxes).has_masks
    assert parse(ground_truth()).has_masks


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """A change that puts the last of ``path`` where the rest leads to."""
    *steps, last, value = path

    def change(data: Any) -> None:
        for step in steps:
            data = data[step]
        if value is ...:
            del data[last]
        else:
            data[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("images", ...), r"missing required field `images`"),
        (_set("images", []), r"no images"),
        (_set("images", 0, "id", [1]), r"Expected `int`, got `array` - at `\$\.images\[0\]\.id`"),
        (_set("images", 0, "id", True), r"Expected `int`, got `bool`"),
        (_set("images", 0, "id", 2**63), r"images\[0\]\.id"),
        (_set("images", 1, "id", 1), r"two image entries have id 1"),
        (_set("images", 1, "height", 0), r"Expected `int` >= 1 - at `\$\.images\[1\]\.height`"),
        (_set("images", 1, "width", 10**6), r"Expected `int` <= 65535"),
        (_set("categories", 1, "id", 3), r"two category entries have id 3"),
        (_set("annotations", 0, "category_id", 7), r"annotation 10: there is no category 7"),
        (_set("annotations", 0, "iscrowd", 2), r"annotations\[0\]\.iscrowd"),
        (_set("annotations", 0, "area", -1), r"annotation 10: area -1"),
        (_set("annotations", 0, "bbox", [0, 0, 1]), r"annotations\[0\]\.bbox"),
        (_set("annotations", 0, "bbox", [0, 0, float("inf"), 1]), r"annotation 10: bbox"),
        (_set("annotations", 0, "bbox", [0, 0, -1, 1]), r"annotation 10: bbox"),
        (_set("annotations", 0, "segmentation", 0, [0] * 7), r"annotation 10: a polygon has 7 numbers"),
        (_set("annotations", 0, "segmentation", 0, [0, 0, 0, 17, 17, 0]), r"further outside"),
        (_set("annotations", 0, "segmentation", 0, 0, float("nan")), r"further outside"),
        (_set("annotations", 0, "segmentation", 0, [0, 0, 8, 6] * 20), r"outline is longer"),
        (_set("annotations", 1, "segmentation", "size", [WIDTH, HEIGHT]), r"annotation 11: RLE size \[8, 6\] is not"),
        (_set("annotations", 1, "segmentation", "counts", [3, 5, 41]), r"annotation 11: RLE counts do not add up"),
        (_set("annotations", 1, "segmentation", "counts", [3, -5, 50]), r"segmentation\.counts"),
        (_set("annotations", 1, "segmentation", "counts", []), r"annotation 11: RLE counts do not add up"),
        (_set("annotations", 2, "segmentation", "counts", ""), r"annotation 12: RLE counts are not"),
        (_set("annotations", 2, "segmentation", "counts", "€"), r"annotation 12: RLE counts are not"),
        (_set("annotations", 2, "segmentation", "counts", "p" * 9), r"annotation 12: RLE counts are not"),
        (_set("annotations", 2, "segmentation", "counts", "o" * 9 + "0"), r"annotation 12: RLE counts have a number"),
        (_set("annotations", 2, "segmentation", "counts", "0O"), r"annotation 12: RLE counts do not add up"),
    ],
)
def test_says_what_is_wrong_where(change: Callable[[dict[str, Any]], None], message: str) -> None:
    data = ground_truth()
    change(data)
    with pytest.raises(DatasetError, match=message) as raised:
        parse(data)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"images": NaN}', b'{"info": ' + b"[" * 100_000],
    ids=["empty", "cut", "list", "binary", "nan", "deep"],
)
def test_refuses_other_bytes(data: bytes) -> None:
    with pytest.raises(DatasetError):
        parse(data)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_reads_compressed_counts_as_pycocotools_writes_them(runs: list[int]) -> None:
    assert run_lengths(compress(runs)) == runs


@given(st.integers(0, 2**32 - 1), st.data())
def test_compressed_counts_must_cover_the_image(seed: int, data: st.DataObject) -> None:
    truth = ground_truth()
    segmentation = truth["annotations"][2]["segmentation"]
    segmentation |= compressed(np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.4)
    parse(truth)
    runs = run_lengths(segmentation["counts"])
    runs[data.draw(st.integers(0, len(runs) - 1))] += data.draw(st.integers(1, 1000))
    segmentation["counts"] = compress(runs)
    with pytest.raises(DatasetError, match="do not add up"):
        parse(truth)


def test_accepts_a_real_file(coco: Path) -> None:
    raw = (coco / "annotations/instances_val2017.json").read_bytes()
    truth = parse(raw)
    original, kept = json.loads(raw), json.loads(dump(truth))
    assert truth.has_masks
    assert kept["annotations"] == [{key: one[key] for key in kept["annotations"][0]} for one in original["annotations"]]
