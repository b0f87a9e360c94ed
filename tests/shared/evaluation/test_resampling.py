"""AP of reweighted images: that of the evaluator, and of a data set in which images really are there twice."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matches_by_hand import Json, image_ids, jittered, places, rectangles, small_data_set

from featlink.shared.evaluation import coco_metrics
from featlink.shared.evaluation.coco import Detection, parse
from featlink.shared.evaluation.coco_metrics import Pool, evaluate, match
from featlink.shared.evaluation.confidence_intervals import draw_images

KINDS = ("bbox", "segm")


def pools(data: Json, detections: list[Detection]) -> dict[str, Pool]:
    return coco_metrics.pools(match(parse(data), detections, image_ids(data)))


def repeated(data: Json, detections: list[Detection], weights: list[int]) -> tuple[Json, list[Detection]]:
    """Each image as often as its weight says, copies side by side in the order of ids."""
    images, annotations, found = [], [], []
    for image_id, weight in zip(sorted(image_ids(data)), weights, strict=True):
        for number in range(weight):
            new = 1000 * image_id + number
            images += [{**one, "id": new} for one in data["images"] if one["id"] == image_id]
            annotations += [{**one, "image_id": new} for one in data["annotations"] if one["image_id"] == image_id]
            found += [copy.copy(one) | {"image_id": new} for one in detections if one["image_id"] == image_id]
    for number, one in enumerate(annotations):
        one["id"] = number + 1
    return {**data, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("score_steps", [10**6, 10])
def test_weights_of_one_give_the_evaluators_number(kind: str, score_steps: int) -> None:
    data = small_data_set()
    detections = jittered(data, 0, 3, score_steps)
    expected = getattr(evaluate(parse(data), detections, image_ids(data)), kind)["AP"]
    assert pools(data, detections)[kind].average_precision(np.ones(12, int)) == expected


@given(
    st.lists(st.tuples(places, st.integers(0, 1)), max_size=8),
    st.lists(st.tuples(places, st.sampled_from([0.25, 0.5])), max_size=12),
)
def test_weights_of_one_where_everything_ties(objects: list[Any], found: list[Any]) -> None:
    data, detections = rectangles(objects, found)
    expected = evaluate(parse(data), detections, [1, 2])
    assert expected.segm is not None
    for kind, scores in (("bbox", expected.bbox), ("segm", expected.segm)):
        assert pools(data, detections)[kind].average_precision([1, 1]) == scores["AP"]


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_that_many_copies_of_the_image(seed: int) -> None:
    data = small_data_set()
    detections = jittered(data, 1, 2, 10**6)  # of equal scores, copies would interleave
    [weights] = draw_images(12, 1, seed)
    more, found = repeated(data, detections, weights.tolist())
    metrics = evaluate(parse(more), found, image_ids(more))
    assert metrics.segm is not None
    got = {kind: one.average_precision(weights) for kind, one in pools(data, detections).items()}
    assert got == {"bbox": metrics.bbox["AP"], "segm": metrics.segm["AP"]}


def test_detections_that_came_to_nothing_leave_their_objects_missed() -> None:
    data = small_data_set()
    detections = jittered(data, 2, 2, 10**6)
    kept = np.arange(12) % 3 > 0
    late = {image for image, here in zip(sorted(image_ids(data)), kept, strict=True) if not here}
    on_time = [one for one in detections if one["image_id"] not in late]
    expected = evaluate(parse(data), on_time, image_ids(data)).bbox["AP"]
    assert pools(data, detections)["bbox"].average_precision(np.ones(12, int), kept) == expected


def test_nothing_to_find() -> None:
    data = small_data_set()
    empty = {**data, "annotations": []}
    found = pools(empty, jittered(data, 0, 1, 10))["bbox"]
    assert found.average_precision(np.ones(12, int)) is None
    assert np.isnan(found.resample(draw_images(12, 3))).all()


def test_draws_are_of_as_many_images_and_repeat() -> None:
    draws = draw_images(30, 2000, seed=3)
    assert (draws.sum(axis=1) == 30).all()
    assert (draws == draw_images(30, 2000, seed=3)).all()
    assert (draws != draw_images(30, 2000, seed=4)).any()
    assert np.mean(draws == 0) == pytest.approx((1 - 1 / 30) ** 30, abs=0.01)
    assert draws.mean(axis=0) == pytest.approx(np.ones(30), abs=0.12)


def test_a_thousand_draws_take_about_a_second() -> None:
    """So that 35 conditions of 64 images, boxes and masks, take less than a minute."""
    data = small_data_set()
    found = pools(data, jittered(data, 0, 40, 10**6))["segm"]
    found.resample(draw_images(12, 1))  # compiles
    begun = time.process_time()
    found.resample(draw_images(12, 1000))
    assert time.process_time() - begun < 60 / 35 / 2 * 2
