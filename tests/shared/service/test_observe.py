"""Metrics count what happened; log lines say it; every answer carries its id."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from prometheus_client.parser import text_string_to_metric_families

from featlink.shared.service.observability import configure_logging

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
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


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
    assert request["status"] == 500
