"""Evaluators: what is registered, and what their figures are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from featlink.shared.evaluation.coco import ItemTruth
from featlink.shared.evaluation.protocol import Evaluator, Figure, evaluators, register_evaluator
from featlink.shared.result import Detection, ItemId


class Mean(Evaluator[float]):
    figures: ClassVar = (Figure("mean.value", "mean"), Figure("mean.most", "greatest"), Figure("other.value", "other"))
    primary = "mean.value"

    def update(self, item: ItemId, truth: ItemTruth, prediction: Sequence[Detection]) -> float:
        return float(item.frame)

    def compute(self, samples: Sequence[float]) -> dict[str, float | None]:
        mean = sum(samples) / len(samples) if samples else None
        return {"mean.value": mean, "mean.most": max(samples, default=None), "other.value": mean}


def test_cocos_leads() -> None:
    leading = evaluators()[0]
    assert leading.primary == leading.figures[0].name == "keypoints.AP"
    assert len({figure.group for figure in leading.figures}) == 3


def test_any_evaluator_can_be_drawn_anew() -> None:
    resamplers = Mean().resamplers([1.0, 2.0, 6.0])
    assert resamplers.keys() == {"mean", "other"}
    draws = resamplers["mean"].draws(np.array([[1, 1, 1], [3, 0, 0], [0, 1, 2], [0, 0, 0]]))
    np.testing.assert_array_equal(draws, [3, 1, 14 / 3, np.nan])


def test_names_that_would_be_confused_are_refused() -> None:
    class Unnamed(Mean):
        figures: ClassVar = (Figure("value", "mean"),)
        primary = "value"

    class Other(Mean):
        primary = "mean.none"

    class Taken(Mean):
        figures: ClassVar = (Figure("segm.mine", "mine"),)
        primary = "segm.mine"

    evaluators()  # COCO's is there
    for wrong in (Unnamed, Other):
        with pytest.raises(TypeError, match=r"group\.name"):
            register_evaluator(wrong)
    with pytest.raises(ValueError, match="'segm'"):
        register_evaluator(Taken)
    assert all(type(one) not in (Unnamed, Other, Taken) for one in evaluators())
