"""Flicker by hand: who comes and goes, and what of it the truth explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from clips_by_hand import Box, detection, evaluated, ground_truth

from featlink.shared.evaluation.flicker import Changes, FlickerEvaluator

HERE: Box = (10, 10, 20, 20)
THERE: Box = (100, 100, 40, 40)
EVALUATOR = FlickerEvaluator()


def changes(objects: list[dict[int, Box]], found: Sequence[Sequence[Any]], ids: bool = True) -> Changes:
    [clip] = evaluated(ground_truth([objects], ids=ids), found)
    return EVALUATOR.update_clip(clip)


def test_an_object_that_is_found_now_and_then_flickers() -> None:
    found = changes([{1: HERE, 2: THERE}] * 5, [[HERE, THERE], [THERE], [HERE, THERE], [HERE, THERE], [THERE]])
    assert found == Changes(objects=(3 / 4, 0), false=0, pairs=4)
    assert EVALUATOR.compute([found]) == {"flicker.objects": 3 / 8, "flicker.false": 0}


def test_who_comes_and_goes_does_not_flicker() -> None:
    assert changes([{}, {1: HERE}, {1: HERE}, {}], [[], [HERE], [HERE], []]) == Changes((0,), 0, 3)


def test_an_object_that_was_away_is_compared_while_it_is_there() -> None:
    """Frames 1 and 2, and 4 and 5: one change of two."""
    objects = [{1: HERE}, {1: HERE}, {}, {1: HERE}, {1: HERE}]
    assert changes(objects, [[HERE], [HERE], [], [], [HERE]]) == Changes((0.5,), 0, 4)


def test_a_false_detection_comes_and_goes_alone() -> None:
    beside: Box = (12, 10, 20, 20)  # like it: IoU 0.82
    assert changes([{}] * 4, [[HERE], [beside], [THERE], []]) == Changes((), 1 + 1 + 1, 3)


def test_a_found_object_that_is_lost_by_a_hair_is_no_false_detection_that_comes() -> None:
    moved: Box = (17, 10, 20, 20)  # IoU with the object 0.48, with the last detection 0.6
    first: Box = (12, 10, 20, 20)
    assert changes([{1: HERE}, {1: HERE}], [[first], [moved]]) == Changes((1,), 0, 1)


def test_unsure_detections_and_those_of_crowds_do_not_count() -> None:
    crowd = [{-1: THERE}] * 3
    unsure = detection(1, HERE, 0.49)
    assert changes(crowd, [[unsure, THERE], [], [THERE, (102, 100, 40, 40)]]) == Changes((), 0, 2)


def test_each_object_has_one_detection_of_its_category() -> None:
    """The second detection of an object is false, and goes; one of another category is false, and comes."""
    other = detection(3, HERE, 0.8, category=2)
    assert changes([{1: HERE}] * 3, [[HERE], [HERE, HERE], [other]]) == Changes((0.5,), 2, 2)


def test_without_ids_objects_are_left_out() -> None:
    found = changes([{1: HERE}] * 2, [[HERE], []], ids=False)
    assert EVALUATOR.compute([found]) == {"flicker.objects": None, "flicker.false": 0}
    assert EVALUATOR.compute([]) == {"flicker.objects": None, "flicker.false": None}


def test_clips_are_pooled_by_object() -> None:
    one, other = Changes((1.0,), 4, 2), Changes((0.0, 0.5), 0, 6)
    assert EVALUATOR.compute([one, other]) == {"flicker.objects": pytest.approx(0.5), "flicker.false": 0.5}
