"""What a request's log line says beside method, path, status and time."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

_MOST = 500
"""Characters of a text."""
_notes: ContextVar[dict[str, Any] | None] = ContextVar("notes", default=None)


def begin() -> dict[str, Any]:
    """Start a request's notes; what is returned grows with each :func:`note`."""
    notes: dict[str, Any] = {}
    _notes.set(notes)
    return notes


def noted() -> dict[str, Any]:
    """The current request's notes; empty outside a request."""
    return dict(_notes.get() or {})


def note(**fields: Any) -> None:
    """Add to the current request's log line; None adds nothing. Outside a request, nothing happens."""
    notes = _notes.get()
    if notes is None:
        return
    for name, value in fields.items():
        if value is not None:
            notes[name] = value[:_MOST] if isinstance(value, str) else value
