"""Requests are bounded and in order; their bodies too; and nothing is done that nobody waits for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import httpx
import pytest
from deployment import serve
from fastapi import Body, FastAPI, Request
from fastapi.responses import StreamingResponse
from waiting import LONG, wait_until

from featlink.shared import cancelling
from featlink.shared.service import admission
from featlink.shared.service.access import digest
from featlink.shared.service.admission import HEADER, SMALL_BODY, RequestQueue, remaining_s
from featlink.shared.service.problems import BusyError


def test_beyond_its_queue_a_service_is_busy(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app, worker, gate = make_service(), RequestQueue(2), threading.Event()

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
        assert answer.json()["title"] == "Busy"
        assert answer.json()["detail"] == "2 requests are in work or waiting already; try again"
    assert [int(answer.headers["retry-after"]) for answer in answers[2:5]] == [1, 2, 2], "each after the one before"


def test_jobs_run_one_at_a_time_in_order_beside_the_event_loop() -> None:
    worker = RequestQueue(10)
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
    worker = RequestQueue(1)

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
    worker, finished = RequestQueue(1), threading.Event()

    async def main() -> None:
        job = asyncio.create_task(worker.run(lambda: (time.sleep(0.05), finished.set())))
        await asyncio.sleep(0.01)
        worker.close()
        assert finished.is_set()
        await job

    asyncio.run(main())


def test_waiting_requests_get_their_places_in_the_order_they_came() -> None:
    worker, served = RequestQueue(1, waiting=8), []

    async def main() -> None:
        async def client(name: str, times: int) -> None:
            for _ in range(times):
                async with worker.admit():
                    await asyncio.sleep(0.001)
                    served.append(name)

        async with asyncio.timeout(LONG):
            await asyncio.gather(*(client(name, 5) for name in "abcdefgh"))

    asyncio.run(main())
    worker.close()
    assert served == list("abcdefgh") * 5


def test_a_slow_upload_holds_no_place() -> None:
    worker = RequestQueue(1, waiting=4)

    async def main() -> str:
        async with asyncio.timeout(LONG), worker.enter(), worker.admit():  # the first uploads, for as long as it likes
            return await worker.run(lambda: "served")

    assert asyncio.run(main()) == "served"
    worker.close()


def test_cancelled_work_that_waits_never_runs_and_work_in_progress_is_told() -> None:
    worker, begun, ran = RequestQueue(4), threading.Event(), []

    def job() -> None:
        stopped = threading.Event()
        with cancelling.current().stopping(stopped.set):
            begun.set()
            assert stopped.wait(LONG)
            ran.append("told")

    async def main() -> None:
        first = asyncio.create_task(worker.run(job))
        second = asyncio.create_task(worker.run(lambda: ran.append("second")))
        await asyncio.to_thread(begun.wait, LONG)
        for task in (second, first):
            task.cancel()
        for task in (second, first):
            with pytest.raises(asyncio.CancelledError):
                await task
        await worker.run(lambda: ran.append("next"))

    asyncio.run(main())
    worker.close()
    assert ran == ["told", "next"]


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


def test_a_compressed_body_is_refused_and_named(app: FastAPI, visit: Any) -> None:
    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        codings = ["gzip", "deflate, gzip", "identity"]
        return [await client.post("/raw", content=b"\x1f\x8b", headers={"content-encoding": one}) for one in codings]

    first, second, plain = visit(app, scenario)
    assert [answer.status_code for answer in (first, second, plain)] == [415, 415, 200]
    assert "Content-Encoding 'gzip'" in first.json()["detail"]
    assert first.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", 401),
        ("origin: http://evil.example\r\n", 403),
        ("authorization: Bearer a-clients-token\r\n", 503),
        ("authorization: Bearer a-clients-token\r\ncontent-encoding: gzip\r\n", 415),
    ],
)
@pytest.mark.parametrize("connection_header", ["close", "keep-alive"])
def test_a_refusal_reaches_a_client_that_still_sends(
    make_service: Callable[..., FastAPI], headers: str, status: int, connection_header: str
) -> None:
    app, body = make_service(max_body_mb=64, tokens=digest("a-clients-token")), bytes(32 << 20)

    @app.post("/busy")
    async def busy() -> None:
        raise BusyError("there are too many already")

    head = f"POST /busy HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}"
    head += f"connection: {connection_header}\r\n\r\n"
    with serve(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), LONG) as connection:
            connection.sendall(head.encode() + body)  # all of it, before it looks for an answer, as proxies do
            assert connection.makefile("rb").readline().startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("connection_header", ["close", "keep-alive"])
def test_a_refusal_in_the_middle_of_a_body_reaches_a_client_that_still_sends(
    make_service: Callable[..., FastAPI], connection_header: str
) -> None:
    app, chunk = make_service(max_body_mb=1), b"100000\r\n" + bytes(1 << 20) + b"\r\n"

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    head = f"POST /raw HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: {connection_header}\r\n\r\n"
    with serve(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), LONG) as connection:
            connection.sendall(head.encode() + 32 * chunk + b"0\r\n\r\n")
            assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413 ")


def test_a_refused_client_that_waits_to_send_is_not_told_to(make_service: Callable[..., FastAPI]) -> None:
    head = f"POST /raw HTTP/1.1\r\nhost: x\r\ncontent-length: {32 << 20}\r\nexpect: 100-continue\r\n\r\n"
    with serve(make_service(max_body_mb=1)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), LONG) as connection:
            connection.sendall(head.encode())
            assert connection.makefile("rb").readline().startswith(b"HTTP/1.1 413 ")


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


@pytest.fixture
def hanging(make_service: Callable[..., FastAPI]) -> FastAPI:
    hanging = make_service()
    hanging.state.seen = []

    async def hang(request: Request) -> None:
        body = await request.body()
        hanging.state.seen.append(f"begun {len(body)}")
        try:
            await asyncio.sleep(1000)
        finally:
            hanging.state.seen.append("ended")

    hanging.post("/hang")(hang)
    hanging.get("/hang")(hang)

    @hanging.get("/left")
    async def left() -> float:
        return remaining_s()

    @hanging.get("/endless")
    async def endless() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                for _ in range(10**9):
                    yield bytes(1 << 16)
                    await asyncio.sleep(0)
            finally:
                hanging.state.seen.append("ended")

        return StreamingResponse(parts())

    return hanging


def requests_counted(hanging: FastAPI) -> dict[str, float]:
    [family] = [f for f in hanging.state.metrics.registry.collect() if f.name == "featlink_requests"]
    return {s.labels["status"]: s.value for s in family.samples if s.name == "featlink_requests_total"}


@pytest.mark.parametrize("head", ["POST /hang HTTP/1.1\r\ncontent-length: 4\r\n", "GET /hang HTTP/1.1\r\n"])
def test_work_for_a_client_that_hangs_up_is_cancelled(hanging: FastAPI, head: str, capsys: Any) -> None:
    with serve(hanging) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"{head}host: x\r\n\r\n".encode() + (b"body" if "POST" in head else b""))
            wait_until(lambda: hanging.state.seen, "the work to begin")
        wait_until(lambda: "ended" in hanging.state.seen, "the work to end")
        wait_until(lambda: requests_counted(hanging) == {"499": 1}, "the request to be counted")
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_client_that_goes_away_while_it_uploads_is_no_error(hanging: FastAPI, capsys: Any) -> None:
    with serve(hanging) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /hang HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\nonly this")
        wait_until(lambda: requests_counted(hanging) == {"499": 1}, "the request to be counted")
    assert not hanging.state.seen
    printed = "".join(capsys.readouterr())
    assert "Traceback" not in printed
    assert '"status": 499' in printed


def test_an_answer_that_nobody_takes_any_more_is_not_made(hanging: FastAPI) -> None:
    with serve(hanging) as url, httpx.Client() as client:
        with client.stream("GET", f"{url}/endless") as answer:
            next(answer.iter_raw())
        wait_until(lambda: hanging.state.seen == ["ended"], "the answer to end")


def test_time_that_is_over_is_504(hanging: FastAPI, visit: Any) -> None:
    answer = visit(hanging, lambda client: client.post("/hang", content=b"body", headers={HEADER: "50"}))
    assert answer.status_code == 504
    assert answer.json()["detail"] == "the request was not done within 0.05 s"
    assert hanging.state.seen == ["begun 4", "ended"]


@pytest.mark.parametrize(("asked", "most"), [("1500", 1.5), ("9000000", 300), ("-1", 300), ("1e3", 300), ("", 300)])
def test_a_caller_can_ask_for_less_time_but_not_for_more(hanging: FastAPI, visit: Any, asked: str, most: float) -> None:
    left = visit(hanging, lambda client: client.get("/left", headers={HEADER: asked})).json()
    assert most - 1 < left <= most


def test_outside_of_a_request_there_is_no_deadline() -> None:
    assert remaining_s() == float("inf")
