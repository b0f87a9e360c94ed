"""A service is ready when it and the next one are, says what it is, and bounds its connections."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from deployment import serve
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from waiting import wait_until

from featlink.shared.errors import ConflictError, ModelError
from featlink.shared.service import app as service_app
from featlink.shared.service.app import HEAD_BYTES
from featlink.shared.service.observability import bind


def reason(answer: httpx.Response) -> str | None:
    """Why a service is not ready; None if it is."""
    if answer.status_code == 200:
        assert answer.json() == {"status": "ready"}
        return None
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["title"] == "Not ready"
    return str(answer.json()["detail"])


def test_a_service_is_alive_while_it_loads_and_ready_after(make_service: Callable[..., FastAPI], visit: Any) -> None:
    loaded = asyncio.Event()
    app = make_service(load=loaded.wait)

    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        assert reason(await client.get("/readyz")) == "loading"
        loaded.set()
        await asyncio.sleep(0)
        assert reason(await client.get("/readyz")) is None

    visit(app, scenario)


def test_a_service_is_as_ready_as_the_next_one(make_service: Callable[..., FastAPI], visit: Any) -> None:
    reasons = ["the cloud is down", None, "the cloud is down again"]
    now: list[str | None] = [None]  # whoever else asks, and however often

    async def unready() -> str | None:
        return now[0]

    async def scenario(client: httpx.AsyncClient) -> list[str | None]:
        await asyncio.sleep(0)
        found = []
        for now[0] in reasons:
            found.append(reason(await client.get("/readyz")))
        return found

    assert visit(make_service(unready=unready), scenario) == reasons


@pytest.mark.parametrize("error", [ModelError("no weights at nowhere"), RuntimeError("out of memory")])
def test_a_service_that_cannot_load_stops_and_is_never_ready(
    make_service: Callable[..., FastAPI], error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = []

    async def load() -> None:
        raise error

    app = make_service(load=load)
    app.state.stop = lambda: stopped.append(True)

    async def main() -> None:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
        ):
            await asyncio.sleep(0.01)
            assert stopped == [True]
            assert app.state.failed
            assert (await client.get("/livez")).status_code == 200
            assert reason(await client.get("/readyz")) == "failed to start"

    asyncio.run(main())
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"cannot start"' in line]
    assert (line["level"], line["reason"]) == ("error", str(error))
    assert ("exception" in line) is (not isinstance(error, ModelError)), "a mistake of ours comes with its traceback"


def test_a_service_is_closed_after_its_last_answer(make_service: Callable[..., FastAPI], visit: Any) -> None:
    events = []

    async def load() -> None:
        await asyncio.sleep(0.02)
        events.append("loaded")

    async def close() -> None:
        events.append("closed")

    async def scenario(client: httpx.AsyncClient) -> None:
        await client.get("/livez")
        events.append("answered")

    visit(make_service(load=load, close=close), scenario)
    assert events == ["answered", "loaded", "closed"]


def test_the_documentation_names_the_service(make_service: Callable[..., FastAPI], visit: Any) -> None:
    answer = visit(make_service(), lambda client: client.get("/openapi.json")).json()
    assert answer["info"]["title"] == "Featlink test"
    assert {"/livez", "/readyz", "/metrics"} <= answer["paths"].keys()


Visit = Callable[..., Any]


@pytest.fixture
def service(make_service: Callable[..., FastAPI]) -> FastAPI:
    app = make_service()

    @app.get("/v1/things")
    async def things(limit: int = 3, by: Annotated[str, Query(alias="order")] = "") -> dict[str, Any]:
        bind(condition="x: y", detections=limit, run=None)
        if by == "wrong":
            raise ConflictError("no such order")
        return {"limit": limit}

    return app


def asked(visit: Visit, app: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(method, path, **options)

    answer: httpx.Response = visit(app, scenario)
    return answer


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_health_can_be_asked_for_its_head(visit: Visit, service: FastAPI, path: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        for _ in range(500):
            if (await client.get("/readyz")).is_success:
                break
            await asyncio.sleep(0.02)
        return await client.head(path)

    answer = visit(service, scenario)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=4&limit=5", "query.limit: given more than once"),
        ("limt=4", "query.limt: unknown parameter; did you mean limit?"),
        ("by=x", "query.by: unknown parameter; known are limit, order"),
        ("limit=4&zzz=1", "query.zzz: unknown parameter"),
    ],
)
def test_a_parameter_that_is_not_known_is_refused(visit: Visit, service: FastAPI, query: str, told: str) -> None:
    answer = asked(visit, service, "GET", f"/v1/things?{query}")
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert asked(visit, service, "GET", "/v1/things?limit=4&order=a").json() == {"limit": 4}
    assert asked(visit, service, "GET", "/livez?x=1").status_code == 422


def test_it_says_what_it_is(visit: Visit, service: FastAPI) -> None:
    told = asked(visit, service, "GET", "/").json()
    assert (told["service"], told["summary"], told["docs"]) == ("Featlink test", "A service.", "/docs")
    page = asked(visit, service, "GET", "/", headers={"accept": "text/html,*/*"})
    assert "<h1>Featlink test</h1>" in page.text
    assert 'href="/docs"' in page.text


def test_the_documentation_loads_nothing_from_elsewhere(visit: Visit, service: FastAPI) -> None:
    page = asked(visit, service, "GET", "/docs").text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(loaded) >= 3
    for path in loaded:
        assert path.startswith("/"), path
        assert asked(visit, service, "GET", path).status_code == 200
    assert "cdn" not in page


def test_the_log_line_has_what_was_noted_and_the_reason(
    visit: Visit, service: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(visit, service, "GET", "/v1/things?limit=2")
    asked(visit, service, "GET", "/v1/things?order=wrong")
    asked(visit, service, "GET", "/v1/things?limit=x")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    good, wrong, odd = [line for line in lines if line["event"] == "request"]
    assert (good["condition"], good["detections"], good["status"]) == ("x: y", 2, 200)
    assert not {"run", "reason"} & good.keys()
    assert (wrong["status"], wrong["reason"]) == (409, "no such order")
    assert odd["status"] == 422
    assert "query.limit" in odd["reason"]


def test_what_is_bound_is_of_one_request_and_bounded(
    visit: Visit, make_service: Callable[..., FastAPI], capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_service()

    @app.get("/{name}")
    async def item(name: str) -> None:
        await asyncio.sleep(0)
        bind(name=name, text="x" * 10_000, **({"only": name} if name == "a" else {}))

    async def scenario(client: httpx.AsyncClient) -> None:
        await asyncio.gather(client.get("/a"), client.get("/b"))
        await client.get("/c")  # in the same task as this one
        await client.get("/livez")

    visit(app, scenario)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = sorted((line for line in lines if line["event"] == "request"), key=lambda line: str(line["path"]))
    assert [line["name"] for line in lines] == ["a", "b", "c"]
    assert [line.get("only") for line in lines] == ["a", None, None]
    assert {len(line["text"]) for line in lines} == {500}


def test_the_address_is_told_when_it_is_ready(
    visit: Visit, make_service: Callable[..., FastAPI], capsys: pytest.CaptureFixture[str]
) -> None:
    states = iter(["not yet", None, None])

    async def unready() -> str | None:
        return next(states)

    async def scenario(client: httpx.AsyncClient) -> None:
        for _ in range(200):
            if '"ready"' in (told := capsys.readouterr().out):
                line = json.loads(told.splitlines()[-1])
                assert (line["event"], line["open"]) == ("ready", "http://127.0.0.1:8001")
                return
            await asyncio.sleep(0.05)
        raise TimeoutError

    visit(make_service(unready=unready, address="http://0.0.0.0:8001"), scenario)


@pytest.fixture
def url(make_service: Callable[..., FastAPI]) -> Iterator[str]:
    app = make_service(max_body_mb=64)

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(64 << 20))

    with serve(app) as url:
        yield url


def talk(url: str, *parts: bytes, endless: Iterable[bytes] = ()) -> bytes:
    """Send parts, as many as are taken, and read until the connection ends."""
    host, port = url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=60) as peer:
        try:
            for part in itertools.chain(parts, endless):
                peer.sendall(part)
            while data := peer.recv(1 << 16):
                received += data
        except ConnectionError:
            pass
    return received


def test_long_headers_are_refused(url: str) -> None:
    head = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    assert talk(url, head, b"a: " + b"b" * (HEAD_BYTES - 1000), b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    at_once = talk(url, head + b"a: " + b"b" * HEAD_BYTES + b"\r\n\r\n")
    assert at_once.startswith(b"HTTP/1.1 431")
    assert b"application/problem+json" in at_once
    # one value, many headers, or a line without an end: nothing of the kind is taken in
    for piece in (b"b" * 4096, b"a: b\r\n" * 700):
        sent = 0

        def pieces(piece: bytes = piece) -> Iterator[bytes]:
            nonlocal sent
            for _ in range(20_000):
                sent += len(piece)
                yield piece

        talk(url, head + b"a: ", endless=pieces())
        assert sent < 20e6
    assert talk(url, b"GET /" + b"a" * 2 * HEAD_BYTES, b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 431")


def test_trailers_and_chunk_extensions_are_bounded(url: str) -> None:
    head = b"POST /raw HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    assert talk(url, head, b"1\r\nx\r\n" * 50_000, b"0\r\n\r\n").endswith(b"50000")
    assert b"200 OK" not in talk(url, head, b"1;" + b"e" * 4 * HEAD_BYTES, b"\r\nx\r\n0\r\n\r\n")
    assert b"200 OK" not in talk(url, head, b"1\r\nx\r\n0\r\n", b"t: t\r\n" * HEAD_BYTES, b"\r\n")


def test_large_bodies_and_pipelined_requests_are_as_before(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        assert [client.post("/raw", content=bytes(n)).json() for n in (3 << 20, 0, 1 << 20)] == [3 << 20, 0, 1 << 20]
    get = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
    answers = talk(url, (get + b"\r\n") * 500 + get + b"connection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200 OK") == 501


def test_a_connection_without_a_request_is_closed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_app, "HEAD_SECONDS", 0.2)
    whole = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    assert talk(url) == b""
    assert talk(url, b"GET /livez HT") == b""
    assert talk(url, whole + whole[:-2]).count(b"200 OK") == 1


def test_an_answer_that_nobody_reads_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_app, "READ_SECONDS", 0.2)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as stalled:
        stalled.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        stalled.recv(10)
        with httpx.Client(base_url=url) as client:

            def in_flight() -> str:
                return next(
                    line for line in client.get("/metrics").text.splitlines() if line.startswith("featlink_requests_in")
                )

            wait_until(lambda: in_flight().endswith(" 0.0"), "the answer to be given up", pause=0.1)


OFFERS = {
    "java": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n",
    "curl": b"Connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "websocket": b"connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n",
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=list(OFFERS))
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_an_offer_of_another_protocol_is_passed_over(url: str, offer: bytes, cut: int) -> None:
    body = bytes(range(256)) * 100
    head = b"POST /raw HTTP/1.1\r\nHost: x\r\n" + offer
    last = b"POST /raw HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx"
    for framed in (
        b"Content-Length: %d\r\n\r\n" % len(body) + body,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
    ):
        request = head + framed
        at = [0, len(request), len(head) + 5, len(request) - 9][cut]
        answers = talk(url, request[:at], request[at:] + request + last)
        assert answers.count(b"HTTP/1.1 200 OK") == 3
        assert answers.count(b"\r\n\r\n25600") == 2


def test_an_offer_without_a_body_is_answered(url: str) -> None:
    last = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert talk(url, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + OFFERS["curl"] + b"\r\n" + last).count(b"200 OK") == 2
    assert b"HTTP/1.1 400" in talk(url, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")


def test_an_offer_helps_no_long_head(url: str) -> None:
    head = b"POST /raw HTTP/1.1\r\nhost: x\r\n" + OFFERS["curl"] + b"a: " + b"b" * HEAD_BYTES + b"\r\n\r\n"
    assert talk(url, head).startswith(b"HTTP/1.1 431")
