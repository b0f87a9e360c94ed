"""Intervals against the normal law, and the bias of few images against data sets of many."""

from __future__ import annotations

import numpy as np
import pytest

from featlink.shared.evaluation.coco_metrics import Pool
from featlink.shared.evaluation.confidence_intervals import draw_images, halve_images, interval, unbiased, undecided


def test_the_interval_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(10, 2, 400)
    draws = draw_images(400, 2000) @ values / 400
    found = interval(draws)
    assert found is not None
    assert found == pytest.approx((values.mean() - 0.196, values.mean() + 0.196), abs=0.03)


def test_some_draws_may_lack_the_figure() -> None:
    assert interval([1.0] * 95 + [np.nan] * 5) == (1.0, 1.0)
    assert interval([1.0] * 89 + [np.nan] * 11) is None
    assert interval([]) is None
    assert undecided([np.nan])


def test_what_has_no_bias_stays() -> None:
    drawn = np.array([0.3, 0.4, 0.5])
    assert unbiased(drawn, 0.4, [0.4, 0.4]) == pytest.approx(drawn)
    assert unbiased(drawn, None, [0.4]).tolist() == drawn.tolist()
    assert unbiased(drawn, 0.4, [np.nan]).tolist() == drawn.tolist()


@pytest.mark.parametrize("count", [8, 9])
def test_halves_are_halves(count: int) -> None:
    halves = halve_images(count, 5)
    assert halves.shape == (10, count)
    assert (halves[::2] + halves[1::2] == 1).all()
    assert set(halves.sum(axis=1)) == {count // 2, count - count // 2}


def scenes(count: int, rng: np.random.Generator) -> Pool:
    """Detections of ten kinds of object, true ones more often of a high score; few in each image."""
    kinds, starts, images, fates = 10, [0], [], []
    objects = np.full((kinds, count), 1, np.int32)
    for _ in range(kinds):
        image, true = np.repeat(np.arange(count, dtype=np.int32), 2), np.tile([1, 2], count)
        scores = rng.normal(np.where(true == 1, 1.0, 0.0), 1.0)
        order = np.argsort(-scores)
        images.append(image[order])
        fates.append(np.repeat(true[order, None], 10, axis=1).astype(np.uint8))
        starts.append(starts[-1] + 2 * count)
    ids = np.arange(count)
    return Pool(ids, np.array(starts), np.concatenate(images), np.ascontiguousarray(np.concatenate(fates)), objects)


@pytest.mark.slow
def test_intervals_of_few_images_hold_the_ap_of_many() -> None:
    """With the bias taken away; without, they mostly would not."""
    rng = np.random.default_rng(3)
    many = scenes(20_000, rng).average_precision(np.ones(20_000, int))
    assert many is not None
    draws = draw_images(32, 200)
    held, held_with_bias = 0, 0
    for _ in range(40):
        few = scenes(32, rng)
        for drawn, moved in ((few.draws(draws), True), (few.resample(draws), False)):
            low, high = interval(drawn) or (1.0, 0.0)
            held += moved and low <= many <= high
            held_with_bias += not moved and low <= many <= high
    assert held >= 34  # 85 %
    assert held_with_bias < 28
