"""Bounds on the bodies that a service takes in: how long each may be, how slow, and how much all hold together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featlink.shared.service.problems import problem

SMALL_BODY = 64 << 10
"""Bytes that settings and the like may have as JSON: parsing them must not stop the event loop for long."""

_DRAIN_SECONDS = 10.0
_SLOWEST = 16 << 10
"""Bytes a second that an upload must keep up on average, beyond its first seconds."""
_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
_TIMEOUT = HTTPStatus.REQUEST_TIMEOUT
_BUSY = HTTPStatus.SERVICE_UNAVAILABLE


class BodyLimit:
    """ASGI middleware that refuses bodies that are too long (413), too slow (408) or too many at once (503).

    Nothing of a body whose declared length is refused is kept, but it is read for a while, so that the client gets to
    see the answer.

    Args:
        app: what it guards.
        limit: bytes of one body.
        held: bytes of all bodies whose requests are not answered yet.
        silence_s: the longest pause in an upload.
        grace_s: how long an upload may be slower than 16 KiB a second.
        small: paths whose bodies may have :data:`SMALL_BODY` bytes only.
    """

    def __init__(
        self, app: ASGIApp, limit: int, held: int, silence_s: float, grace_s: float, small: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._limit = limit
        self._most_held = held
        self._held = 0
        self._silence = silence_s
        self._grace = grace_s
        self._small = frozenset(small)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = min(self._limit, SMALL_BODY) if scope["path"].rstrip("/") in self._small else self._limit
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_drain(receive), _DRAIN_SECONDS)
            detail = f"body of {int(declared)} bytes, the limit is {limit}"
            response = problem(_TOO_LARGE.value, _TOO_LARGE.phrase, detail, scope["path"])
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        received, complete, started = 0, False, time.monotonic()

        async def counted() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()
            allowed = started + self._grace + received / _SLOWEST - time.monotonic()
            # of all errors, FastAPI lets only HTTPException pass while it reads a JSON body
            try:
                async with asyncio.timeout(min(self._silence, allowed)):
                    message = await receive()
            except TimeoutError:
                detail = f"the body comes too slowly: {received} bytes in {time.monotonic() - started:.0f} s"
                raise HTTPException(_TIMEOUT, detail, {"connection": "close"}) from None
            size = len(message.get("body", b""))
            received += size
            self._held += size
            complete = not message.get("more_body", False)
            if received > limit:
                raise HTTPException(_TOO_LARGE, f"body exceeds the limit of {limit} bytes")
            if self._held > self._most_held:
                raise HTTPException(_BUSY, "the bodies of other requests fill the memory for them; try again")
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held -= received


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
