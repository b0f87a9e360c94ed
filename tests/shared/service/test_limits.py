"""Bodies and queues are bounded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Request

from shared.service.limits import Worker
from shared.service.problems import BusyError

LIMIT = 1 << 20
CHUNK = 1 << 16


class Upload:
    """A streamed body that counts the chunks it was asked for."""

    def __init__(self, size: int, head: bytes = b"") -> None:
        self.size = size
        self.head = head
        self.chunks = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.head:
            yield self.head
        for start in range(0, self.size, CHUNK):
            self.chunks += 1
            yield bytes(min(CHUNK, self.size - start))


@pytest.fixture
def app(make_service: Callable[..., FastAPI]) -> FastAPI:
    app = make_service()
    app.state.asked = 0

    @app.post("/raw")
    async def raw(request: Request) -> int:
        app.state.asked += 1
        return len(await request.body())

    @app.post("/json")
    async def json(content: Annotated[Any, Body()]) -> None:
        app.state.asked += 1

    @app.post("/form")
    async def form(request: Request) -> int:
        async with request.form() as form:
            return len(form)

    return app


def check(answer: httpx.Response, detail: str) -> None:
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["trace_id"]
    assert answer.json()["detail"] == detail
    assert "Too Large" in answer.json()["title"]


def test_the_limit_itself_is_accepted(app: FastAPI, visit: Any) -> None:
    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.post("/raw", content=content) for content in (bytes(LIMIT), Upload(LIMIT), b"")]

    assert [answer.json() for answer in visit(app, scenario)] == [LIMIT, LIMIT, 0]


def test_a_declared_length_beyond_the_limit_is_refused_before_it_is_taken_in(app: FastAPI, visit: Any) -> None:
    answer = visit(app, lambda client: client.post("/raw", content=bytes(LIMIT + 1)))
    check(answer, f"body of {LIMIT + 1} bytes, the limit is {LIMIT}")
    assert answer.headers["connection"] == "close"
    assert app.state.asked == 0


@pytest.mark.parametrize(
    ("path", "content_type", "head"),
    [
        ("/raw", "image/jpeg", b""),
        ("/json", "application/json", b""),
        (
            "/form",
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n',
        ),
    ],
)
def test_a_streamed_body_is_refused_when_it_passes_the_limit(
    app: FastAPI, visit: Any, path: str, content_type: str, head: bytes
) -> None:
    upload = Upload(100 * LIMIT, head)
    answer = visit(app, lambda client: client.post(path, content=upload, headers={"content-type": content_type}))
    check(answer, f"body exceeds the limit of {LIMIT} bytes")
    assert upload.chunks <= LIMIT // CHUNK + 1, "the rest was not asked for"


def test_a_declared_length_that_is_a_lie_does_not_help(app: FastAPI, visit: Any) -> None:
    upload = Upload(100 * LIMIT)
    answer = visit(app, lambda client: client.post("/raw", content=upload, headers={"content-length": "10"}))
    check(answer, f"body exceeds the limit of {LIMIT} bytes")
    assert upload.chunks <= LIMIT // CHUNK + 1


# --- the worker -------------------------------------------------------------------------------------------------


def test_beyond_its_queue_a_service_is_busy(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app, worker, gate = make_service(), Worker(2), threading.Event()

    @app.get("/job")
    async def work() -> str:
        async with worker.admit():
            await worker.run(gate.wait)
            return "done"

    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        accepted = [asyncio.create_task(client.get("/job")) for _ in range(2)]
        await asyncio.sleep(0.05)
        refused = [await client.get("/job") for _ in range(3)]
        alive = await client.get("/livez")
        gate.set()
        return [*await asyncio.gather(*accepted), *refused, alive, await client.get("/job")]

    answers = visit(app, scenario)
    worker.close()
    assert [answer.status_code for answer in answers] == [200, 200, 503, 503, 503, 200, 200]
    for answer in answers[2:5]:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["title"] == "Busy"
        assert answer.json()["detail"] == "2 requests are in work already; try again"


def test_jobs_run_one_at_a_time_in_order_beside_the_event_loop() -> None:
    worker = Worker(10)
    order: list[tuple[str, int]] = []
    beside = threading.Event()

    def job(number: int) -> int:
        order.append(("begins", number))
        assert beside.wait(60), "the event loop goes on meanwhile"
        order.append(("ends", number))
        return number

    async def main() -> list[int]:
        jobs = asyncio.gather(*(worker.run(lambda number=number: job(number)) for number in range(5)))
        asyncio.get_running_loop().call_later(0.02, beside.set)
        return await jobs

    results = asyncio.run(main())
    worker.close()
    assert results == [0, 1, 2, 3, 4]
    assert order == [(event, number) for number in range(5) for event in ("begins", "ends")]


def test_a_place_is_given_back_whatever_happens() -> None:
    worker = Worker(1)

    def fail() -> None:
        raise KeyError("lost")

    async def failing() -> None:
        async with worker.admit():
            await worker.run(fail)

    async def main() -> str:
        for _ in range(3):
            with pytest.raises(KeyError, match="lost"):
                await failing()
        async with worker.admit():
            with pytest.raises(BusyError):
                await failing()
        async with worker.admit():
            return await worker.run(lambda: "works")

    assert asyncio.run(main()) == "works"
    worker.close()


def test_closing_finishes_the_job_in_work() -> None:
    worker, finished = Worker(1), threading.Event()

    async def main() -> None:
        job = asyncio.create_task(worker.run(lambda: (time.sleep(0.05), finished.set())))
        await asyncio.sleep(0.01)
        worker.close()
        assert finished.is_set()
        await job

    asyncio.run(main())
