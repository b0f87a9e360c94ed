"""How fast a sweep goes: against simulated sweeps, whose times are known."""

from __future__ import annotations

import heapq
from pathlib import Path

import numpy as np
import pytest

from featlink.sweeps.engine import Task
from featlink.sweeps.pace import Pace, disk_bytes, duration, remaining_s, settled, spread, typical, whole_s

RUNS = (0, 1, 2, 3)


class Sweep:
    """A sweep on workers whose pictures take known times, run on a clock of its own."""

    def __init__(self, seconds: list[float], workers: int, wanted: tuple[int, ...] = RUNS) -> None:
        self.now = 0.0
        self.pace = Pace(clock=lambda: self.now)
        self.told: list[tuple[float, float | None]] = []
        self._seconds = seconds
        source = self.pace.watch([Task(i, Path(), wanted) for i in range(len(seconds))])
        events: list[tuple[float, int, int]] = []
        for _ in range(workers):
            self._begin(events, source, len(wanted))
        while events:
            self.now, image, runs = heapq.heappop(events)
            self.pace.done(image, runs)
            self.told.append((self.now, self.pace.remaining))
            if not any(event[1] == image for event in events):
                self._begin(events, source, len(wanted))

    def _begin(self, events: list[tuple[float, int, int]], source: object, runs: int) -> None:
        task = next(source, None)  # type: ignore[call-overload]
        for run in range(runs if task is not None else 0):
            heapq.heappush(events, (self.now + self._seconds[task.image_id] * (run + 1) / runs, task.image_id, 1))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_what_is_left_is_known_once_the_first_pictures_are_done(workers: int) -> None:
    rng = np.random.default_rng(1)
    seconds = [50.0] * workers + list(rng.uniform(9.8, 10.2, 60))  # the first of each worker warms up
    sweep = Sweep(seconds, workers)
    assert sweep.told[0][1] is None
    warm = [(at, left) for at, left in sweep.told if left is not None and len(seconds) * 10 / workers > at > 70]
    assert len(warm) > 100
    for at, left in warm:
        assert at + left == pytest.approx(sweep.now, abs=12)  # of 160 to 650 s


def test_a_picture_that_lacks_half_the_runs_counts_half() -> None:
    sweep = Sweep([5.0] * 4, 1, wanted=(1, 3))
    assert sweep.pace.seconds == [5.0] * 4  # half of all that are asked for anywhere: of two
    pace = Pace(clock=lambda: 0.0)
    taken = pace.watch([Task(1, Path(), RUNS), Task(2, Path(), (0, 1)), Task(3, Path(), (0, 1))])
    next(taken)
    pace.seconds.append(8.0)
    assert pace.remaining == pytest.approx(8 + 4 + 4)


def test_pictures_that_failed_say_nothing_of_the_others() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    for task in pace.watch([Task(i, Path(), (0, 1)) for i in range(3)]):
        now[0] += 0.1 if task.image_id == 1 else 6
        pace.done(task.image_id, 1, failed=task.image_id == 1)
        pace.done(task.image_id, 1)
    assert pace.seconds == pytest.approx([6, 6])


@pytest.mark.parametrize("n", [5, 9, 20])
def test_the_range_holds_the_median_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    found = [typical(list(rng.lognormal(0, 1, n))) for _ in range(4000)]
    sure = found[0].sure
    assert sure >= 0.9
    assert np.mean([one.low <= 1 <= one.high for one in found]) == pytest.approx(sure, abs=0.02)  # exp(0) is the median


def test_one_picture_has_no_range() -> None:
    assert typical([3.0]).sure == 0
    assert settled([3.0, 2.0, 1.0], 3) == [3.0, 2.0, 1.0]


def test_estimate_and_progress_bar_agree() -> None:
    assert whole_s(7, 12, 1) == remaining_s(7, 12)
    assert whole_s(7, 12, 4) == remaining_s(7, 12, at_once=4)
    assert whole_s(7, 13, 4) == 28


def test_a_sample_is_spread_over_all_that_there_is() -> None:
    for things in range(1, 40):
        for count in range(1, 12):
            found = spread(range(things), count)
            assert len(set(found)) == len(found) == min(count, things)
            assert np.mean(found) == pytest.approx((things - 1) / 2, abs=0.6)


def test_disk_grows_with_pictures_and_not_with_what_is_there_once() -> None:
    assert disk_bytes(used=20_000, fixed=8_000, done=3, pictures=300) == 8_000 + 1_200_000
    assert disk_bytes(used=10, fixed=20, done=1, pictures=5) == 20


@pytest.mark.parametrize(
    ("seconds", "words"), [(59.6, "1 min 0 s"), (3599, "59 min 59 s"), (86_399, "23 h 59 min"), (345_600, "4 d 0 h")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
