"""Nothing is done for a client that has gone or for a request whose time is over."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from deployment import serve
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from waiting import wait_until

from featlink.shared.service.admission import HEADER, remaining_s


@pytest.fixture
def app(make_service: Callable[..., FastAPI]) -> FastAPI:
    app = make_service()
    app.state.seen = []

    async def hang(request: Request) -> None:
        body = await request.body()
        app.state.seen.append(f"begun {len(body)}")
        try:
            await asyncio.sleep(1000)
        finally:
            app.state.seen.append("ended")

    app.post("/hang")(hang)
    app.get("/hang")(hang)

    @app.get("/left")
    async def left() -> float:
        return remaining_s()

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                for _ in range(10**9):
                    yield bytes(1 << 16)
                    await asyncio.sleep(0)
            finally:
                app.state.seen.append("ended")

        return StreamingResponse(parts())

    return app


def requests_counted(app: FastAPI) -> dict[str, float]:
    [family] = [f for f in app.state.metrics.registry.collect() if f.name == "featlink_requests"]
    return {s.labels["status"]: s.value for s in family.samples if s.name == "featlink_requests_total"}


@pytest.mark.parametrize("head", ["POST /hang HTTP/1.1\r\ncontent-length: 4\r\n", "GET /hang HTTP/1.1\r\n"])
def test_work_for_a_client_that_hangs_up_is_cancelled(app: FastAPI, head: str, capsys: Any) -> None:
    with serve(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}host: x\r\n\r\n".encode() + (b"body" if "POST" in head else b""))
            wait_until(lambda: app.state.seen, "the work to begin")
        wait_until(lambda: "ended" in app.state.seen, "the work to end")
        wait_until(lambda: requests_counted(app) == {"499": 1}, "the request to be counted")
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_client_that_goes_away_while_it_uploads_is_no_error(app: FastAPI, capsys: Any) -> None:
    with serve(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /hang HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\nonly this")
        wait_until(lambda: requests_counted(app) == {"499": 1}, "the request to be counted")
    assert not app.state.seen
    printed = "".join(capsys.readouterr())
    assert "Traceback" not in printed
    assert '"status": 499' in printed


def test_an_answer_that_nobody_takes_any_more_is_not_made(app: FastAPI) -> None:
    with serve(app) as url, httpx.Client() as client:
        with client.stream("GET", f"{url}/endless") as answer:
            next(answer.iter_raw())
        wait_until(lambda: app.state.seen == ["ended"], "the answer to end")


def test_time_that_is_over_is_504(app: FastAPI, visit: Any) -> None:
    answer = visit(app, lambda client: client.post("/hang", content=b"body", headers={HEADER: "50"}))
    assert answer.status_code == 504
    assert answer.json()["detail"] == "the request was not done within 0.05 s"
    assert app.state.seen == ["begun 4", "ended"]


@pytest.mark.parametrize(("asked", "most"), [("1500", 1.5), ("9000000", 300), ("-1", 300), ("1e3", 300), ("", 300)])
def test_a_caller_can_ask_for_less_time_but_not_for_more(app: FastAPI, visit: Any, asked: str, most: float) -> None:
    left = visit(app, lambda client: client.get("/left", headers={HEADER: asked})).json()
    assert most - 1 < left <= most


def test_outside_of_a_request_there_is_no_deadline() -> None:
    assert remaining_s() == float("inf")
