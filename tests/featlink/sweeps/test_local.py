"""Jobs ahead of their consumer: everything once, never too far."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from featlink.sweeps.local import Lane, prefetch

Jobs = Iterator[Callable[[], int]]


@pytest.mark.parametrize("ahead", [1, 3])
def test_everything_comes_once(ahead: int) -> None:
    lanes: list[Jobs] = [iter(partial(int, i) for i in range(5)), iter([]), iter([partial(int, 9)])]
    assert sorted(prefetch(*(Lane(jobs, 1, ahead) for jobs in lanes))) == [0, 1, 2, 3, 4, 9]


def test_one_thread_keeps_the_order() -> None:
    assert list(prefetch(Lane((partial(int, i) for i in range(6)), 1, 2))) == list(range(6))


def test_no_lane_gets_further_than_it_may() -> None:
    lock, begun, taken, most = threading.Lock(), [0, 0], [0, 0], [0, 0]

    def job(lane: int) -> int:
        with lock:
            begun[lane] += 1
            most[lane] = max(most[lane], begun[lane] - taken[lane])
        return lane

    for lane in prefetch(*(Lane(iter([partial(job, lane)] * 20), 1, 2) for lane in (0, 1))):
        with lock:
            taken[lane] += 1
    assert taken == [20, 20]
    assert max(most) <= 2


def test_a_lane_of_two_threads_does_two_jobs_at_a_time() -> None:
    together = threading.Barrier(2, timeout=10)
    assert sorted(prefetch(Lane(iter([together.wait] * 4), 2, 2))) == [
        0,
        0,
        1,
        1,
    ]  # a barrier lets nobody through alone


def test_the_consumer_works_while_jobs_run() -> None:
    at_work = threading.Event()
    results = prefetch(Lane(iter([lambda: True, partial(at_work.wait, 10)]), 1, 2))
    assert next(results) is True
    at_work.set()  # with a job that needs the consumer to go on, only overlap gets here
    assert next(results) is True


def test_the_consumer_makes_the_next_job_while_one_runs() -> None:
    made = threading.Event()

    def jobs() -> Iterator[Callable[[], bool]]:
        yield partial(made.wait, 10)
        made.set()
        yield lambda: True

    assert list(prefetch(Lane(jobs(), 1, 2))) == [True, True]


@pytest.mark.parametrize("making", [False, True])
def test_an_error_of_a_job_or_of_making_it_is_the_consumers_and_stops_the_rest(making: bool) -> None:
    later: list[int] = []

    def jobs() -> Iterator[Callable[[], None]]:
        if making:
            raise KeyError("x")
        yield lambda: later.remove(0)
        yield from [partial(later.append, 1)] * 50

    with pytest.raises((KeyError, ValueError)):
        list(prefetch(Lane(jobs(), 1, 2)))
    assert len(later) <= 1
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_leaving_early_stops_the_rest() -> None:
    done: list[int] = []
    results = prefetch(Lane((partial(done.append, i) for i in range(50)), 1, 2))
    next(results)
    results.close()
    count = len(done)
    assert count <= 2
    time.sleep(0.05)
    assert len(done) == count
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
