"""A service of its own for each test, asked without a network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest
import structlog
from fastapi import FastAPI

from featlink.shared.service.app import create_service
from featlink.shared.service.observability import configure_logging
from featlink.shared.service.settings import ServiceSettings

T = TypeVar("T")


async def nothing() -> None:
    pass


_HOOKS = {"load": nothing, "unready": nothing, "close": nothing}


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Log as a service does: structlog's own default draws pictures of tracebacks, which takes seconds."""
    configure_logging("test", "info")
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    for handler in [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]:
        logging.getLogger().removeHandler(handler)


@pytest.fixture
def make_service() -> Callable[..., FastAPI]:
    """Make a service; by default it is ready at once and takes bodies of up to a mebibyte."""

    def make(max_body_mb: int = 1, **given: Any) -> FastAPI:
        fields = {name: given.pop(name) for name in given.keys() & ServiceSettings.model_fields.keys()}
        settings = ServiceSettings(max_body_mb=max_body_mb, **fields)
        return create_service("test", "A service.", settings, **(_HOOKS | given))

    return make


@pytest.fixture
def visit() -> Callable[[FastAPI, Callable[[httpx.AsyncClient], Awaitable[T]]], T]:
    """Run a scenario with a client of an app that is started before and stopped after."""

    def run(app: FastAPI, scenario: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
        async def main() -> T:
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://service") as client,
            ):
                return await scenario(client)

        return asyncio.run(main())

    return run
