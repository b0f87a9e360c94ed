"""One client's connection: bounds that uvicorn's own protocol lacks, on requests' heads and on time."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
"""Bytes of a request's line and headers, of its trailers, and of what frames its chunks beyond the chunks' own size."""

HEAD_SECONDS = 20.0
"""Until a request's headers must have come: a connection without a request is closed."""

READ_SECONDS = 30.0
"""Until a client must have read some of an answer that fills its buffers."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with bounded heads, and time-outs for heads and for answers that nobody reads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._too_long = False
        self._not_body = 0  # bytes since the request began that were no part of its body
        self._body = self._body_before = 0  # bytes of all bodies, and of those before this request's
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._cancel_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and give up on a head that is too long."""
        body = self._body
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._not_body += len(data) - (self._body - body)
        # a chunk of one byte is framed by five more
        if self._not_body > HEAD_BYTES + (0 if self._in_head else 8 * (self._body - self._body_before)):
            self._refuse_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._not_body, self._body_before = True, 0, self._body
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are of no use here, and ignored."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there, or too long although it came at once."""
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            self._too_long = True
            raise httptools.HttpParserError("head too long")
        self._not_body = -HEAD_BYTES  # the head may have come in one piece with much else
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What does not parse, heads that are too long among it."""
        if self._too_long:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def on_body(self, body: bytes) -> None:
        """Some of the body came."""
        self._body += len(body)
        if self.cycle is not None and not self.cycle.body:
            self.cycle.body = b""  # type: ignore[assignment]  # what is added to it is then handed on without a copy
        super().on_body(body)

    def pause_writing(self) -> None:
        """The client does not read: it has some time to begin again."""
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _cancel_timers(self) -> None:
        for timer in (self._head_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._read_timer = None

    def _refuse_head(self) -> None:
        self._cancel_timers()
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # an answer to an earlier request is on its way, or this one's body goes astray
            return
        body = b'{"type":"about:blank","title":"Request Header Fields Too Large","status":431,'
        body += b'"detail":"the request\'s line and headers exceed %d bytes"}' % HEAD_BYTES
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
        self.transport.write(head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        self.transport.close()
