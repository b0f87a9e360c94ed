"""Bounds on what a service takes in: requests at once, and bytes per body."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.service.problems import BusyError, problem

T = TypeVar("T")
_DRAIN_SECONDS = 10.0
_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class Worker:
    """Runs CPU-bound work beside the event loop, one job at a time, with a bounded number waiting.

    One job at a time because an inference already uses every core.

    Args:
        limit: requests admitted at once, waiting ones included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="worker")

    @contextlib.asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Hold a place in the queue; enter before reading a large body.

        Raises:
            BusyError: the queue is full.
        """
        if self._admitted >= self._limit:
            raise BusyError(f"{self._limit} requests are in work already; try again")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def run(self, job: Callable[[], T]) -> T:
        """Run ``job`` when its turn comes."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, job)

    def close(self) -> None:
        """Wait for the job in work and stop."""
        self._pool.shutdown()


class BodyLimit:
    """ASGI middleware: refuses a body beyond ``limit`` bytes, by its declared or its streamed length.

    Nothing of a refused body is kept, but it is read for a while, so that the client gets to see the answer.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limit:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_drain(receive), _DRAIN_SECONDS)
            detail = f"body of {int(declared)} bytes, the limit is {self._limit}"
            response = problem(_TOO_LARGE.value, _TOO_LARGE.phrase, detail, scope["path"])
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                # of all errors, FastAPI lets only this one pass while it reads a JSON body
                raise HTTPException(_TOO_LARGE, f"body exceeds the limit of {self._limit} bytes")
            return message

        await self._app(scope, counted, send)


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
