"""Cancel work in threads by a token, once the client has disconnected or the deadline has passed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from featlink.shared.errors import FeatlinkError


class AbandonedError(FeatlinkError):
    """The result is not computed: whoever wanted it has gone."""

    status = 503
    title = "Abandoned"


class Token:
    """A cancellation that is signalled once and seen by every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._stops: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Cancel the work, and call what stops it; further calls do nothing."""
        with self._lock:
            self._cancelled, stops, self._stops = True, self._stops, []
        for stop in stops:
            stop()

    def check(self) -> None:
        """Stop here if the work is cancelled.

        Raises:
            AbandonedError: it is not.
        """
        if self._cancelled:
            raise AbandonedError("the request was given up")

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Inside, a cancellation calls ``stop``, in the thread that cancels: it must be quick and must not raise.

        Raises:
            AbandonedError: the work was cancelled before, or meanwhile.
        """
        with self._lock:
            if not self._cancelled:
                self._stops.append(stop)
        self.check()
        try:
            yield
        except Exception:
            self.check()  # what was stopped fails for that reason alone
            raise
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._stops.remove(stop)
        self.check()


_token: ContextVar[Token | None] = ContextVar("token", default=None)


def current() -> Token:
    """The token of the work that this thread does; one that nobody cancels if there is none."""
    return _token.get() or Token()


@contextlib.contextmanager
def under(token: Token) -> Iterator[None]:
    """Do work that ``token`` can cancel. A thread that helps with it needs a copy of the context."""
    before = _token.set(token)
    try:
        yield
    finally:
        _token.reset(before)
