"""Errors as RFC 9457 ``application/problem+json``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Scope
from structlog.contextvars import bind_contextvars, get_contextvars

from featlink.shared.errors import FeatlinkError

MEDIA_TYPE = "application/problem+json"


class BusyError(FeatlinkError):
    """Too many requests at once; the client may try again.

    Args:
        detail: which bound is reached.
        retry_after_s: when trying again has a chance.
    """

    status = 503
    title = "Busy"

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class NotReadyError(FeatlinkError):
    """The service has not finished starting, or what it depends on has not."""

    status = 503
    title = "Not ready"


class UpstreamError(FeatlinkError):
    """The next service could not be reached or answered something that is not an answer."""

    status = 502
    title = "Next service failed"


class RelayedProblem(Exception):
    """A problem of the next service, passed on as it came, with its ``Retry-After``."""

    def __init__(self, status: int, body: dict[str, Any], retry_after: str | None = None) -> None:
        super().__init__(body.get("detail"))
        self.status = status
        self.body = body
        self.retry_after = retry_after


def problem(status: int, title: str, detail: str, path: str = "", retry_after_s: int = 1) -> JSONResponse:
    """A problem response.

    Args:
        status: HTTP status, 4xx or 5xx.
        title: short, the same for every problem of a kind.
        detail: what is wrong this time.
        path: of the request.
        retry_after_s: of a 503.
    """
    bind_contextvars(reason=detail)
    trace_id = get_contextvars().get("trace_id", "")
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "trace_id": trace_id}
    if path:
        body["instance"] = path
    headers = {"retry-after": str(retry_after_s)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def path_below(scope: Scope) -> str:
    """A request's path, without the one below which a reverse proxy shows the service."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def unexpected(path: str) -> JSONResponse:
    """The answer to an error that is the service's own, of which the caller learns nothing more."""
    return problem(500, "Internal error", "the service met an unexpected error; its log says more", path)


_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "detail", "trace_id", "instance")},
        "status": {"type": "integer"},
    },
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problems as FastAPI's ``responses`` has them, for the API's documentation."""
    content = {MEDIA_TYPE: {"schema": _SCHEMA}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in sorted(set(statuses))}


def install(app: FastAPI) -> None:
    """Answer every error that a caller can cause with a problem body."""

    @app.exception_handler(FeatlinkError)
    async def _featlink(request: Request, error: FeatlinkError) -> JSONResponse:
        retry_after_s = error.retry_after_s if isinstance(error, BusyError) else 1
        return problem(error.status, error.title, str(error), request.url.path, retry_after_s)

    @app.exception_handler(RelayedProblem)
    async def _relayed(_: Request, error: RelayedProblem) -> JSONResponse:
        bind_contextvars(reason=str(error))
        headers = {"retry-after": error.retry_after or "1"} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
        return JSONResponse(error.body, error.status, headers, media_type=MEDIA_TYPE)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        lines = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        return problem(422, "Invalid request", lines, request.url.path)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        title = HTTPStatus(error.status_code).phrase
        response = problem(error.status_code, title, str(error.detail), request.url.path)
        response.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # Starlette names those of the first route alone
            response.headers["allow"] = ", ".join(sorted(_methods(app, request.scope)))
        return response


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    """All methods that some route takes at a request's path."""
    return {
        method
        for route in app.routes
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
