"""Bodies are bounded: each one's length and slowness, and how much all hold together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Request

from featlink.shared.service import admission
from featlink.shared.service.admission import SMALL_BODY

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
    return routed(make_service())


def routed(app: FastAPI) -> FastAPI:
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


def test_short_json_has_a_limit_of_its_own(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app = make_service(small=("/v1/setting",))

    @app.put("/v1/setting")
    async def put(content: Annotated[Any, Body()]) -> int:
        return len(content)

    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        texts = ["a" * 60_000, "a" * 70_000]
        return [await client.put("/v1/setting", json=text) for text in texts]

    fits, too_long = visit(app, scenario)
    assert fits.json() == 60_000
    check(too_long, f"body of 70002 bytes, the limit is {SMALL_BODY}")


@pytest.mark.parametrize("path", ["/raw", "/json"])
def test_an_upload_that_pauses_ends_with_408(
    path: str, app: FastAPI, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "UPLOAD_SECONDS", 0.05)

    async def stops() -> AsyncIterator[bytes]:
        yield b'"begin'
        await asyncio.sleep(100)

    answer = visit(app, lambda client: client.post(path, content=stops()))
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"
    assert answer.json()["detail"] == "the body comes too slowly: 6 bytes in 0 s"


def test_an_upload_that_trickles_ends_with_408(app: FastAPI, visit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "UPLOAD_SECONDS", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(2000):
            yield b"x"
            await asyncio.sleep(0.01)

    assert visit(app, lambda client: client.post("/raw", content=trickle())).status_code == 408


def test_all_bodies_together_are_bounded(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app = make_service(max_requests=2)
    gate = asyncio.Event()

    @app.post("/hold")
    async def hold(request: Request) -> int:
        size = len(await request.body())
        await gate.wait()
        return size

    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        holding = [asyncio.create_task(client.post("/hold", content=bytes(LIMIT))) for _ in range(2)]
        await asyncio.sleep(0.05)
        refused = await client.post("/hold", content=b"one more")
        gate.set()
        return [*await asyncio.gather(*holding), refused, await client.post("/hold", content=b"again")]

    first, second, refused, again = visit(app, scenario)
    assert [one.status_code for one in (first, second, refused, again)] == [200, 200, 503, 200]
    assert refused.headers["retry-after"] == "1"
    assert "memory" in refused.json()["detail"]
