"""Limit requests: how many run and wait, the size and speed of bodies, deadlines, and cancellation on disconnect.

:class:`RequestBounds` and :class:`DrainUnread` guard every request of a service. A request that needs much memory or
time takes a place in a :class:`RequestQueue` too.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

import anyio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featlink.shared import cancelling
from featlink.shared.service.problems import BusyError, path_below, problem

T = TypeVar("T")

HEADER = "featlink-timeout-ms"
"""How many milliseconds the sender of a request will wait for its answer."""

CLIENT_GONE = 499
"""The status under which a request whose client went away is logged and counted; nobody gets it."""

SMALL_BODY = 64 << 10
"""Bytes that settings and the like may have as JSON: parsing them must not stop the event loop for long."""

UPLOAD_SECONDS, UPLOAD_BYTES = 30.0, 480 << 10
"""An upload must end, or bring this much more, in each such time: 16 KiB/s."""

_DRAIN_SECONDS, _DRAIN_PAUSE_SECONDS = 10.0, 1.0
_LONGEST_RETRY_SECONDS = 60.0
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


def remaining_s() -> float:
    """Seconds that are left of the current request; infinite outside of one."""
    return _deadline.get() - time.monotonic()


class RequestQueue:
    """Runs CPU-bound work beside the event loop, one job at a time, for a bounded number of requests in order.

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
        """:meth:`enter` and take a :meth:`place`."""
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
        self._promised = min(self._promised, now + _LONGEST_RETRY_SECONDS)
        return max(1, math.ceil(self._promised - now))


class RequestBounds:
    """ASGI middleware that bounds a request's body and time, and cancels what nobody waits for.

    A body can be too long (413), too slow (408), one too many (503), or compressed (415). Work whose time is over (504)
    or whose client has gone is cancelled. The time is for the answer's beginning: how slowly that is read is the
    connection's matter.

    Args:
        app: what it guards.
        limit: bytes of one body.
        held: bytes of all bodies whose requests are not answered yet.
        timeout_s: the most that a request may take; a caller can ask for less by :data:`HEADER`.
        small: paths whose bodies may have :data:`SMALL_BODY` bytes only.
    """

    def __init__(self, app: ASGIApp, limit: int, held: int, timeout_s: float, small: Sequence[str] = ()) -> None:
        self._app = app
        self._limit = limit
        self._most_held = held
        self._held = 0
        self._timeout = timeout_s
        self._small = frozenset(small)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = min(self._limit, SMALL_BODY) if path_below(scope).rstrip("/") in self._small else self._limit
        length = headers.get("content-length", "0")
        coding = headers.get("content-encoding", "identity").lower()
        refusal = None
        if coding != "identity":
            detail = f"bodies are not read under Content-Encoding {coding[:50]!r}: send it as it is"
            refusal = problem(415, "Unsupported Media Type", detail, scope["path"])
            refusal.headers["accept-encoding"] = "identity"
        elif length.isdecimal() and int(length) > limit:
            detail = f"body of {int(length)} bytes, the limit is {limit}"
            refusal = problem(413, "Request Entity Too Large", detail, scope["path"])
        if refusal is not None:
            refusal.headers["connection"] = "close"
            await refusal(scope, receive, send)
            return
        asked = headers.get(HEADER, "")
        timeout = min(self._timeout, int(asked) / 1e3 if asked.isdecimal() and len(asked) < 12 else math.inf)
        _deadline.set(time.monotonic() + timeout)
        all_read, gone = asyncio.Event(), asyncio.Event()
        started = finished = False
        empty = not _has_body(headers)
        if empty:  # handlers without a body never ask for it
            all_read.set()
        received, begun = 0, time.monotonic()
        now = asyncio.get_running_loop().time
        due, more = now() + UPLOAD_SECONDS, UPLOAD_BYTES

        async def reading() -> Message:
            nonlocal empty, received, due, more
            if empty:
                empty = False
                return {"type": "http.request", "body": b"", "more_body": False}
            if all_read.is_set():
                await gone.wait()
                return {"type": "http.disconnect"}
            # of all errors, FastAPI lets only HTTPException pass while it reads a JSON body
            try:
                async with asyncio.timeout_at(due):
                    message = await receive()
            except TimeoutError:
                detail = f"the body comes too slowly: {received} bytes in {time.monotonic() - begun:.0f} s"
                raise HTTPException(408, detail, {"connection": "close"}) from None
            if message["type"] == "http.disconnect":
                gone.set()
                work.cancel()
                await anyio.sleep_forever()  # until the cancellation comes: a handler would raise errors of its own
            size = len(message.get("body", b""))
            received += size
            self._held += size
            if received >= more:
                due, more = now() + UPLOAD_SECONDS, received + UPLOAD_BYTES
            if not message.get("more_body", False):
                all_read.set()
            if received > limit:
                raise HTTPException(413, f"body exceeds the limit of {limit} bytes")
            if self._held > self._most_held:
                raise HTTPException(503, "the bodies of other requests fill the memory for them; try again")
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
            self._held -= received
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


class DrainUnread:
    """ASGI middleware: before an answer that ends its connection, what is left of the body is read for a while.

    Otherwise the connection would be reset under a client that still sends, and it, or the reverse proxy in between,
    would not see why it was refused. On a connection that stays, uvicorn drops the body after the answer; and a client
    that waits for ``100 Continue`` sends nothing.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        unread = _has_body(headers) and headers.get("expect", "").lower() != "100-continue"
        closing = scope["http_version"] == "1.0" or _closes(headers)

        async def reading() -> Message:
            nonlocal unread
            message = await receive()
            unread = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            starts = message["type"] == "http.response.start"
            if starts and unread and (closing or _closes(Headers(raw=message.get("headers", [])))):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DRAIN_SECONDS):
                        while unread:
                            async with asyncio.timeout(_DRAIN_PAUSE_SECONDS):
                                await reading()
            await send(message)

        await self._app(scope, reading, sending)


def _closes(headers: Headers) -> bool:
    return headers.get("connection", "").lower() == "close"


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "").strip("0") != ""
