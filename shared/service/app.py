"""The frame of every service's FastAPI app, and how it is served."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any, TypeVar

import structlog
import uvicorn
from fastapi import Depends, FastAPI, Response
from fastapi.responses import PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError

from featlink.shared.errors import FeatlinkError
from featlink.shared.service import front, problems
from featlink.shared.service.access import Access, digest
from featlink.shared.service.connection import Connection
from featlink.shared.service.deadlines import Deadline
from featlink.shared.service.environment import slip, wrong_settings
from featlink.shared.service.intake import BodyLimit
from featlink.shared.service.observe import Metrics, Observe, configure_logging
from featlink.shared.service.parameters import known_only
from featlink.shared.service.settings import ServiceSettings
from featlink.shared.service.spans import Spans, provider

log = structlog.get_logger()
_LOOK_SECONDS = 0.5
"""Between two looks whether the next service is ready."""

_ANY_REQUEST = (400, 401, 403, 404, 405, 408, 413, 421, 422, 431, 500, 503, 504)
GRACE_SECONDS = 60
"""What a service that is told to stop gives its accepted requests; then it cancels them."""

Settings = TypeVar("Settings", bound=ServiceSettings)


def create_service(
    name: str,
    summary: str,
    settings: ServiceSettings,
    *,
    advice: str = "",
    load: Callable[[], Coroutine[None, None, None]],
    unready: Callable[[], Awaitable[str | None]],
    close: Callable[[], Awaitable[None]],
    small: Sequence[str] = (),
    refusals: Sequence[int] = (),
) -> FastAPI:
    """A FastAPI app with health, metrics, problems, limits and tracing.

    Args:
        name: ``edge``, ``channel`` or ``cloud``.
        summary: one line for the API's documentation.
        settings: the service's.
        advice: what to do with it, for whoever opens ``/``.
        load: run once in the background at start, e.g. to load a model; until it is done the
            service is alive but not ready; its failure stops the service.
        unready: why the service, loaded, cannot serve (e.g. the next one is down), or None.
        close: run at shutdown, after the last answer.
        small: paths whose bodies are short JSON.
        refusals: statuses of problems, beside those of every service, for the API's documentation.
    """
    loading: asyncio.Task[None] | None = None
    tracer = provider(name, settings.otlp_endpoint) if settings.otlp_endpoint else None

    def stop_on_failure(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("cannot start", reason=str(error))
            app.state.failed = True
            app.state.stop()

    async def load_and_freeze() -> None:
        await load()
        # What is loaded now stays: without this, a full collection looks through all of torch every few requests
        # and stops the event loop for a quarter of a second.
        gc.collect()
        gc.freeze()

    async def announce(loaded: asyncio.Task[None]) -> None:
        """Tell whoever watches the log when the service can be used."""
        await asyncio.wait([loaded])
        if loaded.cancelled() or loaded.exception() is not None:
            return
        while await unready():
            await asyncio.sleep(_LOOK_SECONDS)
        log.info("ready", **({"open": settings.address} if settings.address else {}))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal loading
        loading = asyncio.create_task(load_and_freeze())
        loading.add_done_callback(stop_on_failure)
        announcing = asyncio.create_task(announce(loading))
        yield
        announcing.cancel()
        with contextlib.suppress(FeatlinkError):
            await loading
        await close()
        if tracer is not None:
            await asyncio.to_thread(tracer.shutdown)

    app = FastAPIOffline(  # whose /docs loads nothing from elsewhere
        title=f"Featlink {name}",
        summary=summary,
        version=version("featlink"),
        lifespan=lifespan,
        redoc_url=None,
        dependencies=[Depends(known_only)],
        responses=problems.documented(*_ANY_REQUEST, *refusals),
    )
    metrics = Metrics()
    metrics.describe(version=app.version, max_requests=settings.max_requests)
    app.state.metrics = metrics
    app.state.failed = False
    app.state.stop = lambda: None  # serve() puts the server's own stop here
    app.add_middleware(
        BodyLimit,
        limit=settings.max_body,
        held=settings.max_held,
        silence_s=settings.upload_silence_s,
        grace_s=settings.upload_grace_s,
        small=small,
    )
    app.add_middleware(Deadline, timeout_s=settings.timeout_s)
    app.add_middleware(
        Access,
        clients=settings.client_tokens,
        services=digest(settings.service_token.get_secret_value()) if settings.service_token else "",
        hosts=settings.other_hosts,
    )
    if tracer is not None:
        app.add_middleware(Spans, provider=tracer)
    app.add_middleware(Observe, metrics=metrics)
    problems.install(app)
    front.install(app, name, summary, advice)

    @app.head("/livez", include_in_schema=False)
    @app.get("/livez", tags=["health"], summary="The process answers")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", tags=["health"], summary="Model loaded and the next service ready")
    async def readyz() -> dict[str, str]:
        if loading is None or not loading.done():
            raise problems.NotReadyError("loading")
        if app.state.failed:
            raise problems.NotReadyError("failed to start")
        if reason := await unready():
            raise problems.NotReadyError(reason)
        return {"status": "ready"}

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", tags=["health"], summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics_text() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def server_config(app: FastAPI, **options: Any) -> uvicorn.Config:
    """How uvicorn is to serve an app of :func:`create_service`.

    Args:
        app: the service.
        options: further ones of ``uvicorn.Config``, such as ``host`` and ``port``.
    """
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        **options,
    )


def serve(name: str, read_settings: Callable[[], Settings], create_app: Callable[[Settings], FastAPI]) -> None:
    """Run a service until it is told to stop; accepted requests are finished first.

    Wrong settings stop it with one line.
    """
    try:
        settings = read_settings()
    except ValidationError as error:
        raise SystemExit(f"{name}: wrong settings: {wrong_settings(error)}") from None
    if wrong := slip(os.environ, type(settings).model_fields):
        raise SystemExit(f"{name}: wrong settings: {wrong}")
    configure_logging(name, settings.log_level)
    try:
        app = create_app(settings)
    except FeatlinkError as error:
        log.error("cannot start", reason=str(error))
        raise SystemExit(1) from None
    tls = {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key} if settings.tls_cert else {}
    config = server_config(app, host=settings.host, port=settings.port, **tls)
    try:
        config.load()
    except OSError as error:  # ssl's errors too
        reason = f"FEATLINK_TLS_CERT {settings.tls_cert} and FEATLINK_TLS_KEY {settings.tls_key}: {error}"
        log.error("cannot start", reason=reason)
        raise SystemExit(1) from None
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    app.state.stop = stop
    # uvicorn raises the signal that stopped it once more when it is done: a clean stop is no failure.
    signal.signal(signal.SIGTERM, _leave)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if app.state.failed:
        raise SystemExit(1)


def _leave(*_: object) -> None:
    raise SystemExit(0)
