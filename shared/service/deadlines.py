"""Requests that nobody waits for any more are cancelled, along the whole chain: client gone, or time over."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from contextvars import ContextVar

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featlink.shared.service.problems import problem

HEADER = "featlink-timeout-ms"
"""How many milliseconds the sender of a request will wait for its answer."""

CLIENT_GONE = 499
"""The status under which a request whose client went away is logged and counted; nobody gets it."""

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


def remaining_s() -> float:
    """Seconds that are left of the current request; infinite outside of one."""
    return _deadline.get() - time.monotonic()


class Deadline:
    """ASGI middleware that cancels a request's work when its client has gone, or when its time is over (504).

    The time is for the answer's beginning; how slowly that is read is the connection's matter.

    Args:
        app: what it guards.
        timeout_s: the most that a request may take; a caller can ask for less by :data:`HEADER`.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        timeout = min(self._timeout, _milliseconds(headers.get(HEADER.encode(), b"")) / 1e3)
        _deadline.set(time.monotonic() + timeout)
        has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip(b"0") != b""
        all_read, gone = asyncio.Event(), asyncio.Event()
        started = finished = False
        first = not has_body
        if first:  # there is nothing to read, and handlers without a body never do
            all_read.set()

        async def reading() -> Message:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            if all_read.is_set():
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
                work.cancel()
                await anyio.sleep_forever()  # until the cancellation comes: a handler would raise errors of its own
            elif not message.get("more_body", False):
                all_read.set()
            return message

        async def sending(message: Message) -> None:
            nonlocal started, finished
            if message["type"] == "http.response.start":
                started = True
                work.deadline = math.inf
            elif not message.get("more_body", False):
                finished = True
            await send(message)

        async def watch() -> None:
            await all_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            if not finished:
                work.cancel()

        watcher = asyncio.create_task(watch())
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + timeout) as work:
                await self._app(scope, reading, sending)
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        if not work.cancelled_caught or started:
            return
        if gone.is_set():
            await send({"type": "http.response.start", "status": CLIENT_GONE, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            detail = f"the request was not done within {timeout:g} s"
            await problem(504, "Deadline exceeded", detail, scope["path"])(scope, receive, send)


def _milliseconds(value: bytes) -> float:
    return int(value) if value.isdigit() and len(value) < 12 else math.inf
