"""Bounds on the requests that a service has at once, and their order: first come, first served."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from featlink.shared import cancelling
from featlink.shared.service.problems import BusyError

T = TypeVar("T")
_LONGEST_RETRY = 60.0
"""Seconds; nobody is told to come back later than that."""


class Worker:
    """Runs CPU-bound work beside the event loop, one job at a time, with a bounded number of requests.

    One job at a time because an inference already uses every core.

    Args:
        limit: requests in work at once: they hold what they work on in memory.
        waiting: further ones that upload or wait for their turn.
    """

    def __init__(self, limit: int, waiting: int = 0) -> None:
        self._limit = limit
        self._most = limit + waiting
        self._inside = 0
        self._places = asyncio.Semaphore(limit)  # its waiters are served in the order they came
        self._seconds = 1.0  # that a place is held, a moving average
        self._promised = 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="worker")

    @contextlib.asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Come in, to upload and to wait: enter before reading a large body.

        Raises:
            BusyError: there are too many already.
        """
        if self._inside >= self._most:
            raise BusyError(f"{self._inside} requests are in work or waiting already; try again", self._retry_after())
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place to work in: only once the body is there, so that no slow upload holds one."""
        async with self._places:
            started = time.monotonic()
            try:
                yield
            finally:
                self._seconds += (time.monotonic() - started - self._seconds) / 8

    @contextlib.asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """:meth:`enter` and take a :meth:`place`.

        Raises:
            BusyError: there are too many already.
        """
        async with self.enter(), self.place():
            yield

    async def run(self, job: Callable[[], T]) -> T:
        """Run ``job`` when its turn comes.

        If the caller is cancelled, a job that has not begun is dropped; one in work is told
        (:mod:`featlink.shared.cancelling`) and not waited for.
        """
        token = cancelling.Token()

        def work() -> T:
            with cancelling.under(token):
                token.check()
                return job()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except asyncio.CancelledError:
            token.cancel()
            raise

    def close(self) -> None:
        """Wait for the job in work and stop."""
        self._pool.shutdown()

    def _retry_after(self) -> int:
        """Seconds until a place should be free for whoever is refused now, after all who were refused before."""
        now, pace = time.monotonic(), self._seconds / self._limit
        self._promised = max(now + self._inside * pace, self._promised + pace)
        self._promised = min(self._promised, now + _LONGEST_RETRY)
        return max(1, math.ceil(self._promised - now))
