"""Working ahead and behind: everything once, never too far."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from featlink.sweeps.ahead import work_ahead, work_behind


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_everything_comes_once(depth: int) -> None:
    lanes: list[list[Callable[[], int]]] = [[partial(int, i) for i in range(5)], [], [partial(int, 9)]]
    assert sorted(work_ahead(lanes, depth)) == [0, 1, 2, 3, 4, 9]


def test_no_lane_gets_further_ahead_than_its_depth() -> None:
    lock, begun, taken, most = threading.Lock(), [0, 0], [0, 0], [0, 0]

    def job(lane: int) -> int:
        with lock:
            begun[lane] += 1
            most[lane] = max(most[lane], begun[lane] - taken[lane])
        return lane

    for lane in work_ahead([[partial(job, lane)] * 20 for lane in (0, 1)], depth=2):
        time.sleep(0.002)
        with lock:
            taken[lane] += 1
    assert taken == [20, 20]
    # The one the consumer has just asked to replace is counted as taken a moment late.
    assert max(most) <= 3


def test_a_lane_of_two_threads_does_two_jobs_at_a_time() -> None:
    together = threading.Barrier(2, timeout=10)
    results = work_ahead([[together.wait] * 4], depth=2, threads=[2])
    assert sorted(results) == [0, 0, 1, 1]  # a barrier lets nobody through alone


def test_the_caller_works_while_jobs_run() -> None:
    at_work = threading.Event()
    results = work_ahead([[lambda: 1, at_work.wait]], depth=2)
    assert next(results) == 1
    at_work.set()  # with a job that needs the caller to go on, only overlap gets here
    assert next(results) is True


def test_an_error_stops_what_has_not_begun() -> None:
    later: list[int] = []

    def fail() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        list(work_ahead([[fail, *[partial(later.append, 1)] * 50]], depth=1))  # type: ignore[list-item]
    assert len(later) <= 1


def test_leaving_early_stops_the_rest() -> None:
    done: list[int] = []
    results = work_ahead([[partial(done.append, i) for i in range(50)]], depth=2)
    next(results)
    results.close()
    count = len(done)
    assert count <= 3
    time.sleep(0.05)
    assert len(done) == count
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_behind_everything_comes_once_and_in_order(depth: int) -> None:
    assert list(work_behind((partial(int, i) for i in range(6)), depth)) == list(range(6))


def test_behind_the_caller_makes_the_next_job_while_one_runs() -> None:
    made = threading.Event()

    def jobs() -> Iterator[Callable[[], bool]]:
        yield lambda: made.wait(10)
        made.set()
        yield lambda: True

    assert list(work_behind(jobs(), depth=1)) == [True, True]


def test_behind_no_more_wait_than_the_depth() -> None:
    begun, may_go_on = [0], threading.Event()

    def jobs() -> Iterator[Callable[[], bool]]:
        for _ in range(10):
            begun[0] += 1
            if begun[0] == 3:  # one worked on, one waiting: the third is made, and has to wait for the first
                may_go_on.set()
            yield lambda: may_go_on.wait(10)

    results = work_behind(jobs(), depth=2)
    next(results)
    assert begun[0] == 3
    assert len(list(results)) == 9


@pytest.mark.parametrize("depth", [0, 2])
def test_behind_an_error_of_a_job_or_of_making_it_is_the_callers(depth: int) -> None:
    later: list[int] = []

    def jobs(making: bool) -> Iterator[Callable[[], None]]:
        if making:
            raise KeyError("x")
        yield lambda: later.remove(0)
        yield from [partial(later.append, 1)] * 50

    with pytest.raises(KeyError):
        list(work_behind(jobs(making=True), depth))
    with pytest.raises(ValueError, match="not in list"):
        list(work_behind(jobs(making=False), depth))
    assert len(later) <= 2
    assert not any(thread.name.startswith("behind") for thread in threading.enumerate())
