"""Streaming AP: late frames are judged by the last answer that is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clips_by_hand import Box, evaluated, ground_truth
from hypothesis import given
from hypothesis import strategies as st

from featlink.shared.evaluation.coco_metrics import evaluate
from featlink.shared.evaluation.confidence_intervals import draw_images
from featlink.shared.evaluation.streaming import AnswerTimes, StreamingEvaluator

NEVER = float("inf")


def at(left: float) -> Box:
    return (left, 50, 20, 20)


MOVING = [{1: at(10 * number)} for number in range(6)]
"""One object that leaves its place within two frames."""
TAKEN = np.arange(6) / 10
FOUND = [[at(10 * number)] for number in range(6)]


def streaming_ap(answered: np.ndarray, deadline: float) -> float | None:
    evaluator = StreamingEvaluator(deadline)
    [clip] = evaluated(ground_truth([MOVING]), FOUND, AnswerTimes(TAKEN, answered))
    return evaluator.compute([evaluator.update_clip(clip)])["streaming_bbox.AP"]


def test_answers_in_time_have_the_ap_of_every_frame() -> None:
    assert streaming_ap(TAKEN + 0.05, 0.05) == pytest.approx(1)


def test_late_answers_are_judged_where_objects_are_by_then() -> None:
    """A frame late: the box is 10 of 20 pixels off, IoU 1/3; half as fast it would be right at some thresholds."""
    assert streaming_ap(TAKEN + 0.15, 0.1) == 0
    evaluator = StreamingEvaluator(0.1)
    slow = [{1: at(2 * number)} for number in range(6)]
    [clip] = evaluated(ground_truth([slow]), [[box[1]] for box in slow], AnswerTimes(TAKEN, TAKEN + 0.15))
    found = evaluator.compute([evaluator.update_clip(clip)])
    assert set(found) == {"streaming_bbox.AP"}  # there are no masks
    # Five of six frames are answered, with an IoU of 18/22: thresholds .50 to .80, and recall reaches 5/6.
    assert found["streaming_bbox.AP"] == pytest.approx(7 / 10 * 84 / 101)


def test_it_is_ap_of_the_detections_shown() -> None:
    """The very number of COCO's evaluator, given each frame's detections by hand."""
    answered = TAKEN + np.array([0.02, 0.3, NEVER, 0.02, 0.25, NEVER])
    truth = ground_truth([MOVING])
    times = AnswerTimes(TAKEN, answered)
    assert times.shown(0.1).tolist() == [0, 0, 0, 3, 3, 3]
    assert times.shown(0.25).tolist() == [0, 0, 1, 3, 4, 4]
    [clip] = evaluated(truth, FOUND, times)
    shown = [
        {**clip.frames[frame].prediction[0], "image_id": image}
        for image, frame in enumerate(times.shown(0.25).tolist(), 1)
    ]
    assert streaming_ap(answered, 0.25) == evaluate(truth, shown, range(1, 7)).bbox["AP"]  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2) | st.just(NEVER)), max_size=12), st.floats(0, 1))
def test_what_is_shown_is_the_newest_that_is_there(steps: list[tuple[float, float]], deadline: float) -> None:
    taken = np.cumsum([step for step, _ in steps])
    answered = taken + np.array([wait for _, wait in steps])
    shown = AnswerTimes(taken, answered).shown(deadline).tolist()
    for frame, chosen in enumerate(shown):
        there = [other for other in range(frame + 1) if answered[other] <= taken[frame] + deadline]
        assert chosen == max(there, default=-1)


@pytest.mark.parametrize(
    ("taken", "answered"),
    [([0, 1], [1]), ([1, 0], [2, 2]), ([0, 1], [0, 0.5]), ([0, NEVER], [0, NEVER]), ([0], [np.nan]), ([[0]], [[0]])],
)
def test_times_that_cannot_be_are_refused(taken: list[float], answered: list[float]) -> None:
    with pytest.raises(ValueError, match="frame"):
        AnswerTimes(np.array(taken), np.array(answered))


def test_clips_without_times_have_no_figures() -> None:
    evaluator = StreamingEvaluator()
    clips = evaluated(ground_truth([MOVING]), FOUND)
    assert evaluator.compute([evaluator.update_clip(clip) for clip in clips]) == {}


def test_a_draw_is_the_ap_of_clips_that_are_there_as_often() -> None:
    evaluator = StreamingEvaluator(0.1)
    clips = [
        evaluator.update_clip(replace(clip, times=AnswerTimes(TAKEN, TAKEN + late)))
        for clip, late in zip(evaluated(ground_truth([MOVING] * 3), FOUND * 3), (0.05, 0.15, 0.05), strict=True)
    ]
    [resampler] = evaluator.resamplers(clips).values()
    for weights in draw_images(3, 20):
        drawn = [clip for clip, times in zip(clips, weights, strict=True) for _ in range(times)]
        expected = evaluator.compute(drawn)["streaming_bbox.AP"]
        assert resampler.pool.average_precision(weights[resampler.clip]) == pytest.approx(expected)
    assert resampler.draws(draw_images(3, 20)).shape == (20,)
