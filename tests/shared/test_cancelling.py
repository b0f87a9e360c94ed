"""Work learns that it is not wanted any more."""

from __future__ import annotations

import threading

import pytest

from featlink.shared import cancelling
from featlink.shared.cancelling import AbandonedError, Token


def test_without_a_canceller_nothing_happens() -> None:
    cancelling.current().check()
    with cancelling.current().stopping(lambda: pytest.fail("nobody cancelled")):
        pass


def test_work_is_stopped_while_it_runs_and_its_failure_is_the_cancellation() -> None:
    token, stopped = Token(), threading.Event()

    def work() -> None:
        with cancelling.under(token), cancelling.current().stopping(stopped.set):
            threading.Thread(target=token.cancel).start()
            stopped.wait(60)
            raise OSError("broken pipe")

    with pytest.raises(AbandonedError):
        work()
    assert stopped.is_set()


def test_what_is_cancelled_does_not_begin() -> None:
    token = Token()
    token.cancel()
    with pytest.raises(AbandonedError), token.stopping(lambda: pytest.fail("not begun")):
        pytest.fail("begun")


def test_what_has_ended_is_not_stopped() -> None:
    token = Token()
    with token.stopping(lambda: pytest.fail("ended")):
        pass
    token.cancel()
