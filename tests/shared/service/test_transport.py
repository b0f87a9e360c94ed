"""Frames over HTTP: taken in under limits, sent on as they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from deployment import serve
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from featlink.shared.features import Sizes
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.result import InferenceResult
from featlink.shared.service import observability
from featlink.shared.service.problems import BusyError, RelayedProblem, UpstreamError
from featlink.shared.service.settings import ServiceSettings
from featlink.shared.service.transport import FrameAnswers, NextService, read_frame_bytes

FRAME = Frame(
    Meta("feature", "m", "w", Sizes((480, 640), (480, 640), (480, 640))),
    (
        Tensor("p2", np.random.default_rng(0).normal(size=(256, 20, 30)).astype(np.float32)),
        Tensor("p3", np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % 8, 3, np.array([[0, 1]], np.float32)),
    ),
)
PARTS = wire.write(FRAME)
DATA = b"".join(PARTS)
RESULT = InferenceResult(image_id=1, detections=[], categories={}, bits=8, bpp=1, fidelity={}, timings={})
LIMIT = 3 * 480 * 640  # of the image that the frame speaks of; DATA is shorter


class Upload:
    """A body in chunks that counts how many it was asked for."""

    def __init__(self, data: bytes, chunk: int) -> None:
        self.data = data
        self.chunk = chunk
        self.chunks = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), self.chunk):
            self.chunks += 1
            yield self.data[start : start + self.chunk]


# --- taking in --------------------------------------------------------------------------------------------------


@pytest.fixture
def app(make_service: Callable[..., FastAPI]) -> FastAPI:
    app = make_service(max_body_mb=2)

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        limits = wire.Limits(frame_bytes=LIMIT)
        body = await read_frame_bytes(request, limits)
        response = FrameAnswers(LIMIT).response(wire.write(wire.read(body, limits)))
        response.headers["received"] = str(body.nbytes)
        return response

    return app


def post(body: Upload | bytes, **headers: str) -> Callable[[httpx.AsyncClient], Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda client: client.post("/echo", content=body, headers=named)


@pytest.mark.parametrize("chunk", [7, 1000, len(DATA)])
def test_a_frame_is_read_however_it_is_cut(app: FastAPI, visit: Any, chunk: int) -> None:
    data = DATA if chunk > 7 else b"".join(wire.write(Frame(FRAME.meta, FRAME.tensors[1:])))
    answer = visit(app, post(Upload(data, chunk), content_length=str(len(data))))
    assert answer.status_code == 200
    assert answer.content == data
    assert answer.headers["content-type"] == "application/vnd.featlink.frame"
    assert answer.headers["content-length"] == answer.headers["received"] == str(len(data))


def refusal(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


def test_a_frame_must_say_how_long_it_is(app: FastAPI, visit: Any) -> None:
    assert refusal(visit(app, post(Upload(DATA, 1000))), 411) == "a frame needs a Content-Length"


@pytest.mark.parametrize("length", ["", "-1", "1.5", "0x10", "many", "²"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    scope = {"type": "http", "method": "POST", "headers": [(b"content-length", length.encode("latin-1"))]}
    with pytest.raises(Exception, match="needs a Content-Length"):
        asyncio.run(read_frame_bytes(Request(scope), wire.Limits()))


def test_garbage_is_refused_at_its_first_bytes(app: FastAPI, visit: Any) -> None:
    upload = Upload(b"GET / HTTP/1.1\r\n" * 20_000, 1000)
    answer = visit(app, post(upload, content_length=str(len(upload.data))))
    assert refusal(answer, 400) == "not a Featlink frame: wrong magic"
    assert upload.chunks == 1


def test_a_frame_beyond_the_limit_is_refused_unread(app: FastAPI, visit: Any) -> None:
    upload = Upload(DATA[:24] + bytes(LIMIT), 1000)
    answer = visit(app, post(upload, content_length=str(len(upload.data))))
    assert refusal(answer, 400) == f"frame of {len(upload.data)} bytes exceeds the limit of {LIMIT}"
    assert upload.chunks == 0


@pytest.mark.parametrize("missing", [1, 100, len(DATA) - 30, len(DATA) - 10, len(DATA)])
def test_a_body_that_ends_early_is_refused(app: FastAPI, visit: Any, missing: int) -> None:
    answer = visit(app, post(Upload(DATA[: len(DATA) - missing], 1000), content_length=str(len(DATA))))
    assert re.search("truncated|its header describes", refusal(answer, 400))


def test_a_body_longer_than_it_says_is_refused(app: FastAPI, visit: Any) -> None:
    answer = visit(app, post(Upload(DATA + bytes(64), 1000), content_length=str(len(DATA))))
    assert refusal(answer, 400) == "body is longer than its Content-Length"


# --- sending on -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """A next service that behaves as badly as it is asked to; yields its URL."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, Any]:
        return {
            **RESULT.model_dump(),
            "same": await request.body() == DATA,
            "headers": dict(request.headers),
            "params": dict(request.query_params),
        }

    @app.post("/problem")
    async def problem() -> Response:
        return JSONResponse({"title": "Busy", "detail": "x"}, 503, media_type="application/problem+json")

    @app.post("/list")
    async def a_list() -> list[int]:
        return [1]

    @app.post("/list-problem")
    async def list_problem() -> Response:
        return JSONResponse([1], 400, media_type="application/problem+json")

    @app.post("/text")
    async def text() -> Response:
        return PlainTextResponse("hello")

    @app.post("/slow")
    async def slow() -> None:
        await asyncio.sleep(1)

    @app.get("/readyz")
    async def readyz() -> None:
        pass

    with serve(app) as url:
        yield url


def send(url: str, path: str, timeout_s: float = 10, **headers: str) -> InferenceResult:
    async def main() -> InferenceResult:
        service = NextService("cloud", url, ServiceSettings(timeout_s=timeout_s))
        try:
            return await service.send(path, PARTS, {"run": "a b"}, headers)
        finally:
            await service.close()

    return asyncio.run(main())


def test_a_frame_arrives_as_it_was_sent(upstream: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    observability.enter_trace(f"00-{trace}-00f067aa0ba902b7-01")
    answer = send(upstream, "/echo", extra="1").model_extra
    assert answer is not None
    assert answer["same"]
    assert answer["params"] == {"run": "a b"}
    assert answer["headers"]["content-type"] == "application/vnd.featlink.frame"
    assert answer["headers"]["content-length"] == str(len(DATA))
    assert "transfer-encoding" not in answer["headers"]
    assert answer["headers"]["traceparent"].startswith(f"00-{trace}-")
    assert answer["headers"]["extra"] == "1"


def test_a_problem_is_relayed(upstream: str) -> None:
    with pytest.raises(RelayedProblem) as caught:
        send(upstream, "/problem")
    assert (caught.value.status, caught.value.body) == (503, {"title": "Busy", "detail": "x"})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nowhere", "is no Featlink service: it answered 404"),
        ("/list", "is no Featlink service: it answered 200"),
        ("/list-problem", "is no Featlink service: it answered 400"),
        ("/text", "did not answer JSON"),
    ],
)
def test_what_is_no_answer_is_named(upstream: str, path: str, message: str) -> None:
    with pytest.raises(UpstreamError, match=f"^cloud at {upstream} {message}$"):
        send(upstream, path)


def test_a_slow_service_times_out(upstream: str) -> None:
    with pytest.raises(UpstreamError, match=f"^cloud at {upstream}: ReadTimeout$"):
        send(upstream, "/slow", timeout_s=0.1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "127.0.0.1:8003", "http://no-such-host.invalid"])
def test_a_service_that_cannot_be_reached_is_named(url: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        send(url, "/echo")
    assert str(caught.value).startswith(f"cloud at {url}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_the_next_service_says_whether_it_is_ready(upstream: str) -> None:
    async def ask(url: str) -> str | None:
        service = NextService("cloud", url, ServiceSettings(timeout_s=1))
        try:
            return await service.unready()
        finally:
            await service.close()

    assert asyncio.run(ask(upstream)) is None
    assert asyncio.run(ask(upstream + "/elsewhere")) == "cloud is not ready: Not Found"
    assert str(asyncio.run(ask("http://127.0.0.1:9"))).startswith("cloud at http://127.0.0.1:9: ")


def test_frames_that_are_read_slowly_are_bounded() -> None:
    async def scenario() -> None:
        answers = FrameAnswers(int(2.5 * len(DATA)))
        begun = [answers.response(PARTS).body_iterator for _ in range(2)]
        for one in begun:
            await anext(one)
        with pytest.raises(BusyError, match="read slowly"):
            answers.response(PARTS)
        await begun[0].aclose()  # its client has gone
        assert b"".join([chunk async for chunk in answers.response(PARTS).body_iterator]) == DATA
        answers.response(PARTS)  # never begun
        answers.response(PARTS)

    asyncio.run(scenario())


def test_one_frame_larger_than_the_bound_is_answered() -> None:
    assert FrameAnswers(1).response(PARTS).headers["content-length"] == str(len(DATA))
