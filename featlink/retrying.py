"""Requests that are sent again where a repeat is safe: the service is busy, stopping, or being started again."""

from __future__ import annotations

import weakref
from http import HTTPStatus
from typing import Any

import httpx
import tenacity

PATIENCE_SECONDS = 60.0
"""How long a request is tried again; a service that was killed is back before that."""

_AGAIN = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE}
_SAFE = {"GET", "HEAD", "PUT", "DELETE"}
_PURE = {"/v1/infer", "/v1/features"}
"""POSTs that change nothing, or add a result of a run that is added once, however often it is sent."""

_answered: weakref.WeakSet[httpx.Client] = weakref.WeakSet()
_jitter = tenacity.wait_random_exponential(multiplier=0.2, max=10)


def request(client: httpx.Client, method: str, path: str, **given: Any) -> httpx.Response:
    """Send a request; again, after a time that ``Retry-After`` or chance decides, while that can help.

    Args:
        client: to send it with.
        method: its method.
        path: its path.
        given: further arguments of ``client.request``.

    Returns:
        The answer; the last one if it never was another than "try again".

    Raises:
        httpx.HTTPError: the last one.
    """
    if method not in _SAFE and path not in _PURE:
        return client.request(method, path, **given)

    def lost(error: BaseException) -> bool:
        """A connection that broke, or cannot be made any more: what has never answered is no service."""
        broken = httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError
        return isinstance(error, broken | httpx.ConnectError if client in _answered else broken)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lost) | tenacity.retry_if_result(_busy),
        wait=_wait,
        stop=tenacity.stop_after_delay(PATIENCE_SECONDS),
        retry_error_callback=_last,
    )
    response: httpx.Response = retrying(client.request, method, path, **given)
    _answered.add(client)
    return response


def _busy(response: httpx.Response) -> bool:
    return response.status_code in _AGAIN


def _wait(state: tenacity.RetryCallState) -> float:
    outcome = state.outcome
    after = "" if outcome is None or outcome.failed else outcome.result().headers.get("retry-after", "")
    return (float(after) if after.isdecimal() else 0) + _jitter(state)


def _last(state: tenacity.RetryCallState) -> httpx.Response:
    if state.outcome is None:
        raise RuntimeError("nothing was tried")
    response: httpx.Response = state.outcome.result()
    return response
