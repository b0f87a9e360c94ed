"""Heads are bounded, and nobody holds a connection without using it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable, Iterator

import httpx
import pytest
from deployment import serve
from fastapi import FastAPI, Request
from fastapi.responses import Response
from waiting import wait_until

from featlink.shared.service import app as service_app
from featlink.shared.service.app import HEAD_BYTES


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
