"""Work ahead of a consumer and behind it, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")


def work_ahead(
    lanes: Sequence[Sequence[Callable[[], T]]], depth: int, threads: Sequence[int] | None = None
) -> Generator[T, None, None]:
    """Do jobs in threads of their own while the caller deals with earlier results.

    Args:
        lanes: the jobs of each are begun in order.
        depth: results that a lane may be ahead, those being made included; 0 works in the caller's thread.
        threads: of each lane, at most ``depth``; default: one.

    Yields:
        Every job's result, as they come.

    Raises:
        Exception: what a job raised; jobs not yet begun are then left out.

    Example:
        >>> sorted(work_ahead([[lambda: 1, lambda: 2], [lambda: 3]], depth=1))
        [1, 2, 3]
    """
    if depth == 0:
        yield from (job() for lane in lanes for job in lane)
        return
    left = threading.Event()

    def within(room: threading.Semaphore, job: Callable[[], T]) -> tuple[threading.Semaphore, T] | None:
        room.acquire()
        return None if left.is_set() else (room, job())

    rooms = [threading.Semaphore(depth) for _ in lanes]
    pools = [ThreadPoolExecutor(count, thread_name_prefix="ahead") for count in threads or [1] * len(lanes)]

    def begin() -> Iterator[Future[tuple[threading.Semaphore, T] | None]]:
        for lane, room, pool in zip(lanes, rooms, pools, strict=True):
            for job in lane:
                yield pool.submit(within, room, job)

    try:
        futures = as_completed(list(begin()))  # which forgets a future, and so its result, once it is yielded
        while (done := next(futures, None)) is not None:
            made = done.result()
            del done
            if made is not None:
                room, result = made
                del made
                yield result
                del result
                room.release()
    finally:
        left.set()
        for pool, room in zip(pools, rooms, strict=True):
            room.release(depth)
            pool.shutdown(cancel_futures=True)


def work_behind(jobs: Iterable[Callable[[], T]], depth: int) -> Iterator[T]:
    """Do jobs in a thread of their own while the caller makes the next ones.

    Args:
        jobs: done in order.
        depth: jobs that may wait or be worked on; 0 works in the caller's thread.

    Yields:
        Every job's result, in order.

    Raises:
        Exception: what a job raised, or making it; jobs not yet begun are then left out.

    Example:
        >>> list(work_behind([lambda: 1, lambda: 2, lambda: 3], depth=1))
        [1, 2, 3]
    """
    if depth == 0:
        yield from (job() for job in jobs)
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
    try:
        waiting: deque[Future[T]] = deque()
        for job in jobs:
            waiting.append(pool.submit(job))
            del job  # and what it holds on to
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
