"""One job at a time, and of those asked for meanwhile only the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Does what was asked for last.

    Answers come in the order of their questions, so an older one never takes a newer one's place, and a slider that
    is moved quickly does not pile up inferences.

    Args:
        work: does one job; must not raise.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]]) -> None:
        self._work = work
        self._next: list[T] = []
        self._task: asyncio.Task[None] | None = None

    def ask(self, job: T) -> None:
        """Do this job, now or when the one in work is done; it replaces another that waits."""
        self._next = [job]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    @property
    def waiting(self) -> bool:
        """Whether a newer job waits for the one in work."""
        return bool(self._next)

    async def _run(self) -> None:
        while self._next:
            await self._work(self._next.pop())

    async def idle(self) -> None:
        """Wait until all is done."""
        if self._task is not None:
            await self._task
