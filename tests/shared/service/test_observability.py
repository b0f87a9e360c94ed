"""Metrics count what happened; log lines and spans say it; every answer carries its id, along the whole chain."""

from __future__ import annotations

import asyncio
import contextvars
import gzip
import http.server
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from prometheus_client.parser import text_string_to_metric_families

from featlink.shared.errors import ConflictError, FeatlinkError
from featlink.shared.service import observability
from featlink.shared.service.app import create_service
from featlink.shared.service.observability import bind, configure_logging
from featlink.shared.service.settings import ServiceSettings

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


@pytest.fixture
def app(make_service: Callable[..., FastAPI]) -> FastAPI:
    app = make_service()

    @app.post("/items/{item}")
    async def items(item: int, request: Request, secret: int = 0) -> str:
        await request.body()
        await asyncio.sleep(0.02)
        return "x" * 10

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError

    return app


def test_metrics_count_requests_by_route_and_status(app: FastAPI, visit: Any) -> None:
    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        for item in range(3):
            await client.post(f"/items/{item}", content=b"12345")
        await client.post("/items/none")
        await client.get("/items/1")
        await client.get("/crash")
        for path in ("/nowhere", "/nowhere/else"):
            await client.get(path)
        await client.post("/items/1", content=bytes((1 << 20) + 1))
        return await client.get("/metrics")

    answer = visit(app, scenario)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = samples(answer.text)
    counted = {
        ("POST", "/items/{item}", "200"): 3,
        ("POST", "/items/{item}", "422"): 1,
        ("GET", "/items/{item}", "405"): 1,
        ("GET", "/crash", "500"): 1,
        ("GET", "unmatched", "404"): 2,
        ("POST", "unmatched", "413"): 1,
    }
    for (method, route, status), count in counted.items():
        assert value(found, "featlink_requests_total", method=method, route=route, status=status) == count
    assert sum(number for (name, _), number in found.items() if name == "featlink_requests_total") == 9

    timed = {"method": "POST", "route": "/items/{item}"}
    assert value(found, "featlink_request_seconds_count", **timed) == 4
    assert (value(found, "featlink_request_seconds_sum", **timed) or 0) >= 0.06
    assert value(found, "featlink_request_seconds_bucket", le="0.01", **timed) in (0, 1), "three of the four slept"
    assert value(found, "featlink_request_seconds_bucket", le="+Inf", **timed) == 4
    assert value(found, "featlink_requests_in_flight") == 0, "the one that asks is not"
    assert value(found, "featlink_received_bytes_total") == 3 * 5 + (1 << 20) + 1
    assert (value(found, "featlink_sent_bytes_total") or 0) >= 3 * 12


def test_link_bits_are_counted_by_domain(app: FastAPI, visit: Any) -> None:
    app.state.metrics.link_bits.labels("feature").inc(1000)
    app.state.metrics.link_bits.labels("feature").inc(24)
    found = samples(visit(app, lambda client: client.get("/metrics")).text)
    assert value(found, "featlink_link_bits_total", domain="feature") == 1024


def test_two_services_in_a_process_count_apart(make_service: Callable[..., FastAPI], visit: Any) -> None:
    one, other = make_service(), make_service()
    visit(one, lambda client: client.get("/livez"))
    found = samples(visit(other, lambda client: client.get("/metrics")).text)
    assert not [key for key in found if key[0] == "featlink_requests_total"]


def test_every_answer_carries_a_request_id(app: FastAPI, visit: Any) -> None:
    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        await asyncio.sleep(0)  # it loads
        return [
            await client.request(method, path, content=content)
            for method, path, content in [
                ("GET", "/livez", b""),
                ("GET", "/readyz", b""),
                ("GET", "/metrics", b""),
                ("GET", "/openapi.json", b""),
                ("GET", "/nowhere", b""),
                ("DELETE", "/livez", b""),
                ("POST", "/items/none", b""),
                ("GET", "/crash", b""),
                ("POST", "/items/1", bytes((1 << 20) + 1)),
            ]
        ]

    answers = visit(app, scenario)
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 405, 422, 500, 413]
    identities = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(len(one) == 1 and re.fullmatch("[0-9a-f]{32}", one[0]) for one in identities)
    assert len({one[0] for one in identities}) == len(answers)


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    configure_logging("cloud", "info")

    def lines() -> list[dict[str, Any]]:
        every = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [line for line in every if line["event"] != "ready"]

    return lines


def test_each_request_is_one_json_line(app: FastAPI, visit: Any, log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    answer = visit(app, lambda client: client.post("/items/7?secret=1", content=b"12345"))
    [line] = [one for one in log_lines() if one["event"] == "request"]
    assert line["ms"] >= 20
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["timestamp"])
    assert {name: line[name] for name in ("service", "level", "event", "method", "path", "status", "trace_id")} == {
        "service": "cloud",
        "level": "info",
        "event": "request",
        "method": "POST",
        "path": "/items/7",
        "status": 200,
        "trace_id": answer.headers["x-request-id"],
    }


def test_probes_are_not_logged(app: FastAPI, visit: Any, log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        visit(app, lambda client, path=path: client.get(path))
    assert log_lines() == []


def test_an_unexpected_error_is_logged_with_its_request(
    app: FastAPI, visit: Any, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    answer = visit(app, lambda client: client.get("/crash"))
    error, request = log_lines()
    assert (error["level"], error["event"], error["path"]) == ("error", "unexpected error", "/crash")
    assert "in crash" in error["exception"]
    assert error["trace_id"] == request["trace_id"] == answer.headers["x-request-id"]
    assert (request["status"], request["level"]) == (500, "error"), "found by its level"


def test_what_libraries_say_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("cloud", "info")  # here, since what it writes to ends with the fixtures' set-up
    try:
        raise OSError("disk")
    except OSError:
        logging.getLogger("uvicorn.error").exception("something %s", "broke")
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    logging.getLogger("uvicorn.error").info("Started server process")
    broken, warned = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (broken["service"], broken["level"], broken["event"]) == ("cloud", "error", "something broke")
    assert "OSError: disk" in broken["exception"]
    assert (warned["level"], "old" in warned["event"]) == ("warning", True)


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


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
VALID = f"00-{TRACE}-00f067aa0ba902b7-00"
MALFORMED = [
    "",
    "nonsense",
    f"00-{TRACE}-00f067aa0ba902b7",
    f"00-{TRACE}-00f067aa0ba902b7-0",
    f"00-{TRACE}-00f067aa0ba902b7-00-more",
    f" {VALID}",
    f"{VALID}\n",
    VALID.upper(),
    f"ff-{TRACE}-00f067aa0ba902b7-00",
    f"00-{'0' * 32}-00f067aa0ba902b7-00",
    f"00-{TRACE}-{'0' * 16}-00",
    f"00-{TRACE[:-1]}g-00f067aa0ba902b7-00",
    f"00-{TRACE}é-00f067aa0ba902b7-00",
]


def entered(header: str | None) -> tuple[str, str]:
    """The trace id, and the header for the next service, of a request that came with a header."""
    return contextvars.Context().run(lambda: (observability.enter_trace(header), observability.traceparent()))


def test_a_valid_trace_is_continued_under_a_span_of_its_own() -> None:
    identity, onwards = entered(VALID)
    assert identity == TRACE
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-00", onwards)
    assert onwards != VALID
    assert entered(onwards)[0] == TRACE, "the next service continues it"
    assert entered(VALID.removesuffix("00") + "01")[1].endswith("-01"), "sampled stays sampled"


@pytest.mark.parametrize("header", [None, *MALFORMED])
def test_anything_else_begins_a_new_trace(header: str | None) -> None:
    identity, onwards = entered(header)
    assert re.fullmatch(r"[0-9a-f]{32}", identity)
    assert identity != TRACE
    assert entered(onwards)[0] == identity
    assert entered(header)[0] != identity


def test_outside_a_request_there_is_no_trace() -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", contextvars.Context().run(observability.traceparent))


def test_requests_at_once_keep_their_traces_apart(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app = make_service()

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(0.01)
        return observability.traceparent().split("-")[1]

    identities = [f"{number:032x}" for number in range(1, 21)]

    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        headers = [{"traceparent": f"00-{identity}-00f067aa0ba902b7-01"} for identity in identities]
        return await asyncio.gather(*(client.get("/slow", headers=one) for one in headers))

    answers = visit(app, scenario)
    assert [answer.json() for answer in answers] == identities
    assert [answer.headers["x-request-id"] for answer in answers] == identities
