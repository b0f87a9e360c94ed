"""Waiting that ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

LONG = 300
"""Seconds that nothing takes, however busy the machine."""


def wait_until(happened: Callable[[], object], what: str, pause: float = 0.02) -> None:
    """Call ``happened`` until it is true.

    Raises:
        TimeoutError: it is not for a long time; says ``what``.
    """
    deadline = time.monotonic() + LONG
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {LONG} s for {what}")
        time.sleep(pause)


def wait_until_ready(url: str) -> None:
    """Wait for a service that says it is ready."""
    wait_until(lambda: httpx.get(f"{url}/readyz", timeout=LONG).is_success, f"{url} to be ready", pause=0.1)
