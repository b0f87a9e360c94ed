"""Keypoint figures against pycocotools' own COCOeval: every number must be the very same float."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matches_by_hand import Json, index
from pycocotools.cocoeval import COCOeval

from featlink.shared.errors import DatasetError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import Detection, parse
from featlink.shared.evaluation.coco_metrics import KEYPOINT_METRICS, CocoEvaluator, evaluate
from featlink.shared.evaluation.coco_results import clean_truth
from featlink.shared.evaluation.keypoints import similarity

PERSON = 1


def people(seed: int, steps: int, grid: float = 1e-3) -> tuple[Json, list[Detection]]:
    """Images with people, some of them crowds or without marked keypoints, and detections of them in rounded places."""
    rng = np.random.default_rng(seed)
    images = [{"id": number, "width": 300, "height": 250} for number in (4, 1, 9, 2)]
    annotations: list[Json] = []
    found: list[Detection] = []
    for image in images:
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = ((rng.uniform([0, 0, 8, 8], [150, 100, 140, 140]) / grid).round() * grid).tolist()
            marked = rng.choice([0, 1, 2], 17, p=[0.3, 0.2, 0.5]) * (rng.random() > 0.2)
            points = np.stack([x + w * rng.random(17), y + h * rng.random(17)], 1)
            kept = np.column_stack([(points / grid).round() * grid * (marked > 0)[:, None], marked])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": PERSON,
                    "bbox": [x, y, w, h],
                    "area": float(w * h * rng.choice([0.4, 0.5])),
                    "iscrowd": int(rng.random() < 0.15),
                    "keypoints": kept.ravel().tolist(),
                    "num_keypoints": int((marked > 0).sum()),
                }
            )
            for _ in range(rng.integers(0, 4)):
                moved = ((points + rng.normal(0, rng.choice([0.5, 3, 15]), (17, 2))) / grid).round() * grid
                found.append(
                    {
                        "image_id": image["id"],
                        "category_id": PERSON,
                        "bbox": [x, y, w, h],
                        "score": float(rng.integers(1, steps + 1) / steps),
                        "keypoints": np.column_stack([moved, np.ones(17)]).ravel().tolist(),
                    }
                )
    return {"images": images, "categories": [{"id": PERSON, "name": "person"}], "annotations": annotations}, found


def reference(data: Json, found: list[Detection], images: list[int]) -> dict[str, float | None]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = index(data)
        results = [{name: value for name, value in one.items() if name != "bbox"} for one in copy.deepcopy(found)]
        made = truth.loadRes(results) if results else index({**data, "annotations": []})
        evaluator = COCOeval(truth, made, "keypoints")
        evaluator.params.imgIds = images
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: None if value == -1 else value for name, value in zip(KEYPOINT_METRICS, evaluator.stats, strict=True)}


@given(seed=st.integers(0, 10**6), steps=st.sampled_from([4, 10**6]), grid=st.sampled_from([1e-3, 8.0]))
@settings(deadline=None, max_examples=40)
def test_equals_pycocotools(seed: int, steps: int, grid: float) -> None:
    data, found = people(seed, steps, grid)
    truth = parse(data)
    metrics = evaluate(truth, found, [1, 2, 4, 9])
    if any(one.keypoints for one in truth.annotations):
        assert metrics.keypoints == reference(data, found, [1, 2, 4, 9])
        assert metrics.segm is None
    else:
        assert metrics.keypoints is None


def test_more_than_twenty_people_of_an_image_do_not_count() -> None:
    data, found = people(3, 10)
    many = [{**one, "score": one["score"] / (1 + turn)} for turn in range(12) for one in found]
    assert evaluate(parse(data), many, [1, 2, 4, 9]).keypoints == reference(data, many, [1, 2, 4, 9])  # type: ignore[arg-type]


def test_a_shifted_keypoint_counts_by_its_own_tolerance() -> None:
    points = [10.0, 10, 2] * 17
    one = coco.Annotation(1, 1, PERSON, (0, 0, 40, 40), 900.0, 0, keypoints=points)
    nose, hip = points.copy(), points.copy()
    nose[0] += 3
    hip[3 * 11] += 3
    found: list[Detection] = [
        {"image_id": 1, "category_id": PERSON, "bbox": [0, 0, 9, 9], "score": 1.0, "keypoints": where}
        for where in (points, nose, hip)
    ]
    made = similarity(found, [one])[:, 0]
    assert made[0] == 1
    assert made[1] == pytest.approx((16 + np.exp(-9 / (2 * 900 * (2 * 0.026) ** 2))) / 17)
    assert made[2] == pytest.approx((16 + np.exp(-9 / (2 * 900 * (2 * 0.107) ** 2))) / 17)


def test_keypoints_lead_where_model_and_data_set_have_them() -> None:
    data, found = people(5, 10**6)
    judge, there = CocoEvaluator(), coco.items(parse(data))
    samples = [
        judge.update(truth.image.item, truth, [one for one in found if one["image_id"] == image])
        for image, truth in there.items()
    ]
    figures = judge.compute(samples)
    assert judge.primary in figures
    drawn = judge.resamplers(samples)
    assert set(drawn) == {"bbox", "keypoints"}
    assert drawn["keypoints"].average_precision(np.ones(4, int)) == figures["keypoints.AP"]
    boxes: list[Detection] = [
        {"image_id": one["image_id"], "category_id": PERSON, "bbox": one["bbox"], "score": one["score"]}
        for one in found
    ]
    assert evaluate(parse(data), boxes, [1, 2, 4, 9]).keypoints is None


def test_of_the_clean_run_every_keypoint_is_found_again() -> None:
    data, found = people(5, 10**6)
    truth = clean_truth(parse(data), found, 0.0)
    metrics = evaluate(truth, found, [1, 2, 4, 9])
    assert metrics.keypoints is not None
    assert metrics.keypoints["AP"] == 1


def test_other_keypoints_are_left_out_and_wrong_ones_refused() -> None:
    data, _ = people(5, 10)
    plain = copy.deepcopy(data)
    for one in plain["annotations"]:
        del one["keypoints"]
    hands = copy.deepcopy(data)
    for one in hands["annotations"]:
        one["keypoints"] = [1, 2, 2] * 21
    assert coco.dump(parse(hands)) == coco.dump(parse(plain)), "the same data set"
    broken = copy.deepcopy(data)
    broken["annotations"][0]["keypoints"] = "none"
    assert "keypoints" in coco.read(broken)[1]
    broken["annotations"][0]["keypoints"] = [float("nan")] * 51
    with pytest.raises(DatasetError, match="keypoint"):
        parse(broken)
