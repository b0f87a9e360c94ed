"""shared.evaluation.coco_metrics against pycocotools' own COCOeval: every number must be the very same float."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matches_by_hand import Json, Placed, image_ids, index, jittered, places, rectangles, small_data_set
from pycocotools.cocoeval import COCOeval

from featlink.shared.evaluation.coco import Detection, dump, parse
from featlink.shared.evaluation.coco_metrics import METRICS, Metrics, evaluate


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


def assert_equal(data: Json, detections: list[Detection], image_ids: list[int]) -> Metrics:
    metrics = evaluate(parse(data), detections, image_ids)
    assert metrics.bbox == reference(data, detections, image_ids, "bbox")
    assert metrics.segm == reference(data, detections, image_ids, "segm")
    return metrics


@pytest.mark.parametrize(("copies", "score_steps"), [(1, 10**6), (3, 20), (40, 10)])
def test_equals_pycocotools(copies: int, score_steps: int) -> None:
    data = small_data_set()
    detections = jittered(data, seed=copies, copies=copies, score_steps=score_steps)
    metrics = assert_equal(data, detections, image_ids(data))
    assert_equal(data, detections, image_ids(data)[::3])
    assert metrics.segm is not None
    assert 0.2 < metrics.bbox["AP"] < 0.8
    assert 0.2 < metrics.segm["AP"] < 0.8


@pytest.mark.slow
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


@pytest.mark.slow
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
