"""Every error is an RFC 9457 problem with the request's id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Query
from starlette.responses import StreamingResponse

from featlink.shared.errors import ConditionError, ConflictError, FeatlinkError, ImageError, NotFoundError
from featlink.shared.service.problems import BusyError, NotReadyError, RelayedProblem, UpstreamError

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
Visit = Callable[[FastAPI, Ask], httpx.Response]


def check(answer: httpx.Response, status: int, title: str, instance: str) -> str:
    """Check a problem's shape; returns its detail."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    detail = body.pop("detail")
    assert isinstance(detail, str)
    assert detail
    assert body == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "instance": instance,
        "trace_id": answer.headers["x-request-id"],
    }
    return detail


@pytest.fixture
def app(make_service: Callable[..., FastAPI]) -> FastAPI:
    app = make_service()

    @app.get("/number/{number}")
    async def number(number: int, limit: Annotated[int, Query(le=10)] = 0) -> int:
        return number + limit

    @app.put("/settings")
    async def settings(settings: Annotated[dict[str, int], Body()]) -> dict[str, int]:
        return settings

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("the password is secret")

    @app.get("/crash-midway")
    async def crash_midway() -> StreamingResponse:
        async def chunks() -> Any:
            yield b"half an"
            raise RuntimeError("the password is secret")

        return StreamingResponse(chunks())

    return app


def test_an_unknown_path(app: FastAPI, visit: Visit) -> None:
    assert check(visit(app, lambda client: client.get("/nowhere")), 404, "Not Found", "/nowhere") == "Not Found"


def test_a_wrong_method_says_which_are_right(app: FastAPI, visit: Visit) -> None:
    answer = visit(app, lambda client: client.delete("/settings"))
    check(answer, 405, "Method Not Allowed", "/settings")
    assert answer.headers["allow"] == "PUT"


@pytest.mark.parametrize(
    ("ask", "instance", "detail"),
    [
        (lambda client: client.get("/number/seven"), "/number/seven", "path.number: Input should be a valid integer"),
        (
            lambda client: client.get("/number/7?limit=11"),
            "/number/7",
            "query.limit: Input should be less than or equal",
        ),
        (
            lambda client: client.put("/settings", json={"a": "b"}),
            "/settings",
            "body.a: Input should be a valid integer",
        ),
        (lambda client: client.put("/settings"), "/settings", "body: Field required"),
        (lambda client: client.put("/settings", content=b"{"), "/settings", "body"),
    ],
)
def test_a_wrong_parameter_is_named(app: FastAPI, visit: Visit, ask: Ask, instance: str, detail: str) -> None:
    assert detail in check(visit(app, ask), 422, "Invalid request", instance)


def test_an_unexpected_error_tells_nothing_but_its_id(app: FastAPI, visit: Visit) -> None:
    answer = visit(app, lambda client: client.get("/crash"))
    assert "secret" not in check(answer, 500, "Internal error", "/crash")


def test_an_answer_that_breaks_midway_is_cut_off(app: FastAPI, visit: Visit) -> None:
    with pytest.raises(RuntimeError, match="password"):  # with a server: the connection closes
        visit(app, lambda client: client.get("/crash-midway"))


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (FeatlinkError, 400, "Bad request"),
        (ConditionError, 400, "Invalid condition"),
        (NotFoundError, 404, "Not found"),
        (ConflictError, 409, "Conflict"),
        (ImageError, 415, "Unreadable image"),
        (UpstreamError, 502, "Next service failed"),
        (NotReadyError, 503, "Not ready"),
        (BusyError, 503, "Busy"),
    ],
)
def test_errors_of_the_caller_keep_status_title_and_text(
    app: FastAPI, visit: Visit, error: type[FeatlinkError], status: int, title: str
) -> None:
    @app.get("/fail")
    async def fail() -> None:
        raise error("what is wrong: ä 'quoted' \"text\"")

    answer = visit(app, lambda client: client.get("/fail"))
    assert check(answer, status, title, "/fail") == "what is wrong: ä 'quoted' \"text\""
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)


@pytest.mark.parametrize("status", [404, 503])
def test_a_problem_of_the_next_service_is_passed_on(app: FastAPI, visit: Visit, status: int) -> None:
    body = {"type": "about:blank", "title": "Busy", "status": status, "detail": "x", "instance": "/v1/detect"}

    @app.get("/fail")
    async def fail() -> None:
        raise RelayedProblem(status, body)

    answer = visit(app, lambda client: client.get("/fail"))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == body
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
