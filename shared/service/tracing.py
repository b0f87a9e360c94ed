"""W3C trace context: one request id from the edge to the cloud and in every log line."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_trace: ContextVar[tuple[str, str]] = ContextVar("trace", default=("", "01"))

_span: ContextVar[str] = ContextVar("span", default="")


def enter(traceparent: str | None) -> str:
    """Continue the caller's trace, or begin one.

    Args:
        traceparent: the request's header, if any; a malformed one is ignored, as the standard asks.

    Returns:
        The trace id, 32 hex digits.
    """
    match = _TRACEPARENT.fullmatch(traceparent or "")
    trace = (match[1], match[2]) if match else (secrets.token_hex(16), "01")
    _trace.set(trace)
    _span.set("")
    return trace[0]


def within(span: str) -> None:
    """Make a span, 16 hex digits, the parent of what the current request asks of others."""
    _span.set(span)


def trace_id() -> str:
    """The current request's trace id; empty outside a request."""
    return _trace.get()[0]


def traceparent() -> str:
    """The header for a request made on behalf of the current one."""
    identity, flags = _trace.get()
    return f"00-{identity or secrets.token_hex(16)}-{_span.get() or secrets.token_hex(8)}-{flags}"
