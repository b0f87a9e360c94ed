"""What a service says of itself, without anything from elsewhere; and what it refuses to pass over."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query

from featlink.shared.errors import ConflictError
from featlink.shared.service.observability import bind

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
                assert json.loads(told.splitlines()[-1])["event"] == "ready"
                return
            await asyncio.sleep(0.05)
        raise TimeoutError

    visit(make_service(unready=unready), scenario)
