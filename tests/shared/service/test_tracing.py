"""The W3C trace context: continued where it is valid, begun anew where it is not."""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from featlink.shared.service import observability as tracing

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
    return contextvars.Context().run(lambda: (tracing.enter_trace(header), tracing.traceparent()))


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
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", contextvars.Context().run(tracing.traceparent))


def test_requests_at_once_keep_their_traces_apart(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app = make_service()

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(0.01)
        return tracing.traceparent().split("-")[1]

    identities = [f"{number:032x}" for number in range(1, 21)]

    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        headers = [{"traceparent": f"00-{identity}-00f067aa0ba902b7-01"} for identity in identities]
        return await asyncio.gather(*(client.get("/slow", headers=one) for one in headers))

    answers = visit(app, scenario)
    assert [answer.json() for answer in answers] == identities
    assert [answer.headers["x-request-id"] for answer in answers] == identities
