"""Health: alive from the first moment, ready when loaded and the next service is, never after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from featlink.shared.errors import ModelError


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
    make_service: Callable[..., FastAPI], error: Exception
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

    if isinstance(error, ModelError):
        asyncio.run(main())
    else:  # a bug: it comes out with its traceback
        with pytest.raises(RuntimeError, match="out of memory"):
            asyncio.run(main())


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
