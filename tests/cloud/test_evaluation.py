"""cloud.evaluation against pycocotools' own COCOeval: every number must be the very same float."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cloud.coco import Detection, DetectionMask, _run_lengths, dump, parse
from cloud.evaluation import METRICS, Metrics, evaluate

Json = dict[str, Any]


def reference(data: Json, detections: list[Detection], image_ids: list[int], kind: str) -> dict[str, float | None]:
    """The 12 numbers by pycocotools, run as its manual says; its -1 as None."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = index(data)
        # loadRes cannot read an empty list.
        found = truth.loadRes(copy.deepcopy(detections)) if detections else index({**data, "annotations": []})
        evaluator = COCOeval(truth, found, kind)
        evaluator.params.imgIds = image_ids
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: None if value == -1 else value for name, value in zip(METRICS, evaluator.stats, strict=True)}


def index(data: Json) -> COCO:
    truth = COCO()
    truth.dataset = copy.deepcopy(data)
    truth.createIndex()
    return truth


def assert_equal(data: Json, detections: list[Detection], image_ids: list[int]) -> Metrics:
    metrics = evaluate(parse(data), detections, image_ids)
    assert metrics.bbox == reference(data, detections, image_ids, "bbox")
    assert metrics.segm == reference(data, detections, image_ids, "segm")
    return metrics


def jittered(data: Json, seed: int, copies: int, score_steps: int) -> list[Detection]:
    """Detections made of the ground truth: some missed, some doubled, displaced, of a wrong category, tied in score."""
    rng = np.random.default_rng(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = index(data)
    categories = [category["id"] for category in data["categories"]]
    detections: list[Detection] = []
    for one in data["annotations"]:
        rle = truth.annToRLE(one)
        height, width = rle["size"]
        runs = _run_lengths(rle["counts"] if isinstance(rle["counts"], str) else rle["counts"].decode())
        original = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs).reshape(width, height).T
        for _ in range(copies):
            if rng.random() < 0.15:
                continue
            mask = np.roll(original, rng.integers(-2, 3, size=2), axis=(0, 1))
            if rng.random() < 0.5:
                mask = mask | np.roll(mask, 1, axis=0) | np.roll(mask, 1, axis=1)  # dilated
            rle = mask_api.encode(np.asfortranarray(mask))
            x, y, w, h = one["bbox"]
            box = np.array([x + rng.normal(0, w / 25), y + rng.normal(0, h / 25), w, h])
            box[2:] *= rng.uniform(0.9, 1.1, size=2)
            wrong = rng.random() < 0.1
            detections.append(
                {
                    "image_id": one["image_id"],
                    "category_id": int(rng.choice(categories)) if wrong else one["category_id"],
                    "bbox": box.astype(np.float32).tolist(),
                    "score": float(np.float32(rng.integers(1, score_steps + 1) / score_steps)),
                    "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
                }
            )
    return [detections[i] for i in rng.permutation(len(detections))]


def small_data_set() -> Json:
    """Twelve images with polygons and both kinds of RLE, objects of all sizes, crowds, ids in no order."""
    rng = np.random.default_rng(0)
    images = [{"id": int(i), "width": int(w), "height": int(h)} for i, w, h in _sizes(rng)]
    annotations: list[Json] = []
    for image in images[:-1]:  # one image has no object
        for _ in range(rng.integers(1, 9)):
            size = np.exp(rng.uniform(np.log(6), np.log(180), size=2))
            w, h = np.minimum(size, [image["width"] - 2, image["height"] - 2]).tolist()
            x, y = rng.uniform(0, image["width"] - w), rng.uniform(0, image["height"] - h)
            polygon = [x, y, x + w, y, x + w, y + h, x + w / 2, y + h * 0.8, x, y + h]
            rle = mask_api.merge(mask_api.frPyObjects([polygon], image["height"], image["width"]))
            annotation: Json = {
                "id": 1000 - len(annotations),
                "image_id": image["id"],
                "category_id": int(rng.choice([7, 2, 90])),
                "bbox": [x, y, w, h],
                "area": float(mask_api.area(rle)),
                "iscrowd": int(rng.random() < 0.15),
                "segmentation": [polygon],
            }
            if annotation["iscrowd"]:
                text = {"size": rle["size"], "counts": rle["counts"].decode()}
                runs = {"size": rle["size"], "counts": _run_lengths(text["counts"])}
                annotation["segmentation"] = text if rng.random() < 0.5 else runs
            annotations.append(annotation)
    categories = [{"id": 90}, {"id": 2}, {"id": 7}, {"id": 50}]  # 50 has no object
    return {"images": images, "categories": categories, "annotations": annotations}


def _sizes(rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([rng.permutation(100)[:12] + 1, rng.integers(100, 300, size=(12, 2))])


def image_ids(data: Json) -> list[int]:
    return [image["id"] for image in data["images"]]


@pytest.mark.parametrize(("copies", "score_steps"), [(1, 10**6), (3, 20), (40, 10)])
def test_equals_pycocotools(copies: int, score_steps: int) -> None:
    data = small_data_set()
    detections = jittered(data, seed=copies, copies=copies, score_steps=score_steps)
    metrics = assert_equal(data, detections, image_ids(data))
    assert_equal(data, detections, image_ids(data)[::3])
    assert metrics.segm is not None
    assert 0.2 < metrics.bbox["AP"] < 0.8
    assert 0.2 < metrics.segm["AP"] < 0.8


Placed = tuple[int, int, list[int]]
"""Image, category, and box of a rectangle."""


def rectangles(objects: list[tuple[Placed, int]], found: list[tuple[Placed, float]]) -> tuple[Json, list[Detection]]:
    """Two images of 120 × 100 with rectangular objects (and iscrowd), and detections (and score)."""
    data: Json = {
        "images": [{"id": 2, "width": 120, "height": 100}, {"id": 1, "width": 120, "height": 100}],
        "categories": [{"id": 2}, {"id": 1}],
        "annotations": [
            {
                "id": 1 + number,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": crowd,
                "segmentation": [outline(box)],
            }
            for number, ((image, category, box), crowd) in enumerate(objects)
        ],
    }
    detections: list[Detection] = []
    for (image, category, box), score in found:
        rle = mask_api.frPyObjects([outline(box)], 100, 120)[0]
        segmentation: DetectionMask = {"size": rle["size"], "counts": rle["counts"].decode()}
        detections.append(
            {
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "score": score,
                "segmentation": segmentation,
            }
        )
    return data, detections


def outline(box: list[int]) -> list[int]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


sides = st.sampled_from([16, 32, 96, 100])
boxes = st.tuples(st.sampled_from([0, 8, 16]), st.just(0), sides, sides).map(list)
places = st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 2]), boxes)


@given(
    st.lists(st.tuples(places, st.integers(0, 1)), max_size=8),
    st.lists(st.tuples(places, st.sampled_from([0.25, 0.5])), max_size=12),
)
@settings(deadline=None)
def test_equals_pycocotools_where_scores_ious_and_areas_tie(
    objects: list[tuple[Placed, int]], found: list[tuple[Placed, float]]
) -> None:
    assert_equal(*rectangles(objects, found), [1, 2])


def test_of_equal_ious_the_last_object_is_matched() -> None:
    between, on_the_last = (1, 1, [8, 0, 32, 32]), (1, 1, [16, 0, 32, 32])
    objects = [((1, 1, [0, 0, 32, 32]), 0), (on_the_last, 0)]
    metrics = assert_equal(*rectangles(objects, [(between, 0.9), (on_the_last, 0.5)]), [1])
    assert metrics.bbox["AP50"] == pytest.approx(51 / 101)  # recall ends at 0.5: the better detection took the last


def test_only_the_best_hundred_detections_of_an_image_count() -> None:
    place, elsewhere = (1, 1, [0, 0, 32, 32]), (1, 1, [60, 50, 32, 32])
    metrics = assert_equal(*rectangles([(place, 0)], [(place, 0.1)] + 100 * [(elsewhere, 0.5)]), [1])
    assert metrics.bbox["AR100"] == 0
    metrics = assert_equal(*rectangles([(place, 0)], [(place, 0.1)] + 99 * [(elsewhere, 0.5)]), [1])
    assert metrics.bbox["AR100"] == 1


@pytest.mark.parametrize("subset", [1, 3])
def test_equals_pycocotools_on_coco(subset: int, coco: Path) -> None:
    data = json.loads((coco / "annotations/instances_val2017.json").read_bytes())
    metrics = assert_equal(data, jittered(data, seed=0, copies=1, score_steps=10**6), image_ids(data)[::subset])
    assert metrics.segm is not None
    assert 0.3 < metrics.bbox["AP"] < 0.7
    assert 0.3 < metrics.segm["AP"] < 0.7


def test_no_detections_is_zero_where_there_are_objects() -> None:
    data = small_data_set()
    metrics = assert_equal(data, [], image_ids(data))
    assert set(metrics.bbox.values()) == {0.0}


def test_no_objects_is_none() -> None:
    data = small_data_set()
    metrics = assert_equal(data, jittered(data, 0, 1, 10), image_ids(data)[-1:])
    assert set(metrics.bbox.values()) == {None}
    assert evaluate(parse(data), [], []) == metrics


def test_the_order_of_detections_in_an_image_does_not_change_distinct_scores() -> None:
    data = small_data_set()
    truth, detections = parse(data), jittered(data, 0, 2, 10**6)
    assert evaluate(truth, detections[::-1], image_ids(data)) == evaluate(truth, detections, image_ids(data))


def test_an_annotation_of_id_0_counts() -> None:
    data = small_data_set()
    renumbered = copy.deepcopy(data)
    for number, annotation in enumerate(renumbered["annotations"]):
        annotation["id"] = number
    detections = jittered(data, 0, 2, 100)
    assert evaluate(parse(renumbered), detections, image_ids(data)) == assert_equal(data, detections, image_ids(data))


def test_segm_needs_masks_on_both_sides() -> None:
    data = small_data_set()
    detections, truth = jittered(data, 0, 1, 100), parse(data)
    with_masks = evaluate(truth, detections, image_ids(data))
    boxes = copy.deepcopy(detections)
    for detection in boxes:
        del detection["segmentation"]
    for annotation in data["annotations"]:
        del annotation["segmentation"]
    assert evaluate(truth, boxes, image_ids(data)) == Metrics(with_masks.bbox, None)
    assert evaluate(parse(data), detections, image_ids(data)) == Metrics(with_masks.bbox, None)


def test_foreign_detections_do_not_count_and_foreign_images_are_refused() -> None:
    data = small_data_set()
    truth, detections = parse(data), jittered(data, 0, 1, 100)
    foreign: Detection = {"image_id": 5000, "category_id": 2, "bbox": [0, 0, 9, 9], "score": 1.0}
    unnamed: Detection = {**foreign, "image_id": image_ids(data)[0], "category_id": 5000}
    ids = image_ids(data)
    assert evaluate(truth, [foreign, unnamed, *detections], ids) == evaluate(truth, detections, ids)
    with pytest.raises(ValueError, match="image 5000 is not in the data set"):
        evaluate(truth, detections, [*ids, 5000])


def test_leaves_inputs_alone_prints_nothing_and_runs_in_threads(capfd: pytest.CaptureFixture[str]) -> None:
    data = small_data_set()
    truth, detections = parse(data), jittered(data, 0, 3, 100)
    canonical, kept = dump(truth), copy.deepcopy(detections)
    expected = evaluate(truth, detections, image_ids(data))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: evaluate(truth, detections, image_ids(data)), range(8)))
    assert found == [expected] * 8
    assert dump(truth) == canonical
    assert detections == kept
    assert capfd.readouterr() == ("", "")
