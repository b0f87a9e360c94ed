"""Milliseconds on the monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def timed(job: Callable[[], T]) -> tuple[T, float]:
    """Run ``job``.

    Returns:
        Its result, and how many milliseconds it took.
    """
    started = time.monotonic()
    result = job()
    return result, (time.monotonic() - started) * 1e3
