"""Spans reach a collector, under the trace id that the answer names."""

from __future__ import annotations

import gzip
import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from featlink.shared.errors import ConflictError, FeatlinkError
from featlink.shared.service import observability
from featlink.shared.service.app import create_service
from featlink.shared.service.observability import bind
from featlink.shared.service.settings import ServiceSettings

proto = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the extra 'otel' is not installed"
)


class Collector(http.server.ThreadingHTTPServer):
    """Keeps the spans it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[Any] = []
        self.services: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = proto.ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            names = {one.key: one.value.string_value for one in group.resource.attributes}
            collector.services.add(names["service.name"])
            for scope in group.scope_spans:
                collector.spans += scope.spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def nothing() -> None:
    pass


def test_each_request_is_a_span_with_what_was_noted(collector: Collector, visit: Callable[..., Any]) -> None:
    settings = ServiceSettings(otlp_endpoint=collector.url)
    app: FastAPI = create_service("test", "A service.", settings, load=nothing, unready=nothing, close=nothing)
    asked_on: list[str] = []

    @app.get("/v1/things/{thing}")
    async def things(thing: str) -> None:
        bind(condition="x: y", bits=8)
        asked_on.append(observability.traceparent())
        if thing == "wrong":
            raise ConflictError("no")

    parent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"

    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        await client.get("/livez")
        first = await client.get("/v1/things/a", headers={"traceparent": parent})
        return [first, await client.get("/v1/things/wrong")]

    first, second = visit(app, scenario)
    assert collector.services == {"featlink-test"}
    a, b = sorted(collector.spans, key=lambda span: int(span.start_time_unix_nano))
    assert (a.name, a.trace_id.hex(), a.parent_span_id.hex()) == ("GET /v1/things/{thing}", "ab" * 16, "cd" * 8)
    assert first.headers["x-request-id"] == "ab" * 16
    assert (b.trace_id.hex(), b.parent_span_id) == (second.headers["x-request-id"], b"")
    assert asked_on[0] == f"00-{'ab' * 16}-{a.span_id.hex()}-01"
    said = {one.key: one.value for one in a.attributes}
    assert said["featlink.condition"].string_value == "x: y"
    assert said["featlink.bits"].int_value == 8
    assert {one.key: one.value.int_value for one in b.attributes}["http.response.status_code"] == 409


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(FeatlinkError, match=r"pip install 'featlink\[otel\]'"):
        observability.tracer_provider("edge", "http://127.0.0.1:4318")
