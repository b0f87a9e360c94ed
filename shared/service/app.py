"""Build a service's FastAPI app, with health checks, metrics, errors and limits, and run its server."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import gc
import html
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, TypeVar

import httptools
import structlog
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from featlink.shared.errors import FeatlinkError, StorageError
from featlink.shared.service import problems
from featlink.shared.service.access import Access, Forwarded, digest
from featlink.shared.service.admission import DrainUnread, RequestBounds
from featlink.shared.service.observability import Metrics, Observe, configure_logging, tracer_provider
from featlink.shared.service.settings import ServiceSettings, reachable, refused_exit, slip, wrong_settings
from featlink.shared.service.transport import Network

log = structlog.get_logger()
Settings = TypeVar("Settings", bound=ServiceSettings)

HEAD_BYTES = 64 << 10
"""Bytes of a request's line and headers, of its trailers, and of what frames its chunks beyond the chunks' own size."""

HEAD_SECONDS = 20.0
"""Until a request's headers must have come: a connection without a request is closed."""

READ_SECONDS = 30.0
"""Until a client must have read some of an answer that fills its buffers."""

STOP_SECONDS = 60
"""What a service that is told to stop gives its accepted requests; then it cancels them."""

_POLL_SECONDS = 0.5
"""Between two looks whether the next service is ready."""

_ANY_REQUEST = (400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 431, 500, 503, 504)
_LINKS = {"docs": "/docs", "api": "/openapi.json", "ready": "/readyz", "metrics": "/metrics"}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{service}</title>
<style>body{{font:16px/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}}</style>
<h1>{service}</h1>
<p>{summary}</p>
<p>{advice}</p>
<ul>{links}</ul>
<p>Version {version}</p>
</html>
"""


def create_service(
    name: str,
    summary: str,
    settings: ServiceSettings,
    *,
    advice: str = "",
    load: Callable[[], Coroutine[None, None, None]],
    unready: Callable[[], Awaitable[str | None]],
    close: Callable[[], Awaitable[None]],
    network: Callable[[], Network | None] = lambda: None,
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
        network: which network the service holds, or those behind it; ``/readyz`` tells it to the service before.
        small: paths whose bodies are short JSON.
        refusals: statuses of problems, beside those of every service, for the API's documentation.
    """
    loaded = asyncio.Event()
    tracers = tracer_provider(name, settings.otlp_endpoint) if settings.otlp_endpoint else None

    async def start() -> None:
        """Load; then tell whoever watches the log when the service can be used, or why it never will."""
        try:
            await load()
        except Exception as error:
            ours = None if isinstance(error, FeatlinkError) else error  # it is told with its traceback
            log.error("cannot start", reason=str(error) or type(error).__name__, exc_info=ours)
            app.state.failed = error
            app.state.stop()
            return
        finally:
            loaded.set()
        # What is loaded now stays: without this, a full collection looks through all of torch every few requests
        # and stops the event loop for a quarter of a second.
        gc.collect()
        gc.freeze()
        while await unready():
            await asyncio.sleep(_POLL_SECONDS)
        log.info("ready", **({"open": reachable(settings.address)} if settings.address else {}))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(start())
        yield
        await loaded.wait()
        starting.cancel()
        await close()
        if tracers is not None:
            await asyncio.to_thread(tracers.shutdown)

    app = FastAPIOffline(  # whose /docs loads nothing from elsewhere
        title=f"Featlink {name}",
        summary=summary,
        version=version("featlink"),
        lifespan=lifespan,
        redoc_url=None,
        dependencies=[Depends(_known_parameters)],
        responses=problems.documented(*_ANY_REQUEST, *refusals),
    )
    metrics = Metrics()
    metrics.describe(version=app.version, max_requests=settings.max_requests)
    app.state.metrics = metrics
    app.state.failed = None
    app.state.stop = lambda: None  # serve() puts the server's own stop here
    app.add_middleware(
        RequestBounds, limit=settings.max_body, held=settings.max_held, timeout_s=settings.timeout_s, small=small
    )
    app.add_middleware(
        Access,
        clients=settings.client_tokens,
        services=digest(settings.service_token.get_secret_value()) if settings.service_token else "",
        hosts=settings.other_hosts,
    )
    app.add_middleware(DrainUnread)
    app.add_middleware(Observe, metrics=metrics, tracers=tracers)
    app.add_middleware(Forwarded, proxies=settings.trusted_proxies)
    problems.install(app)
    about = {"service": app.title, "version": app.version, "summary": summary, "advice": advice}

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        links = {word: request.scope.get("root_path", "") + path for word, path in _LINKS.items()}
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({**about, **links})
        items = "".join(f'<li><a href="{path}">{word}</a></li>' for word, path in links.items())
        return HTMLResponse(_PAGE.format(**{key: html.escape(value) for key, value in about.items()}, links=items))

    @app.head("/livez", include_in_schema=False)
    @app.get("/livez", tags=["health"], summary="The process answers")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", tags=["health"], summary="Model loaded and the next service ready")
    async def readyz() -> dict[str, Any]:
        if not loaded.is_set():
            raise problems.NotReadyError("loading")
        if app.state.failed:
            raise problems.NotReadyError("failed to start")
        if reason := await unready():
            raise problems.NotReadyError(reason)
        return {"status": "ready"} | (asdict(held) if (held := network()) else {})

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", tags=["health"], summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics_text() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _known_parameters(request: Request) -> None:
    """A dependency of every endpoint: a query parameter that is misspelt, or given again, would silently do nothing.

    Raises:
        RequestValidationError: the query has a parameter that the endpoint does not take, or one twice.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    operation = request.app.openapi()["paths"].get(route.path_format, {}).get(request.method.lower())
    if operation is None:  # not documented, such as the documentation
        return
    known = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    errors = []
    for name in (name for name in request.query_params if name not in known):
        alike = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {alike[0]}?" if alike else f"known are {', '.join(known) or 'none'}"
        errors.append({"type": "extra_forbidden", "loc": ("query", name[:64]), "msg": f"unknown parameter; {hint}"})
    times = Counter(name for name, _ in request.query_params.multi_items() if name in known)
    twice = [name for name, count in times.items() if count > 1]
    errors += [{"type": "extra_forbidden", "loc": ("query", name), "msg": "given more than once"} for name in twice]
    if errors:
        raise RequestValidationError(errors)


def serve(name: str, read_settings: Callable[[], Settings], create_app: Callable[[Settings], FastAPI]) -> None:
    """Run a service until it is told to stop; accepted requests are finished first.

    Wrong settings stop it with one line.
    """
    configure_logging(name, "info")  # so that a wrong setting is told as JSON too
    try:
        settings = read_settings()
        if wrong := slip(os.environ, type(settings).model_fields):
            raise FeatlinkError(f"wrong settings: {wrong}")
        configure_logging(name, settings.log_level)
        app = create_app(settings)
        config = _loaded_config(app, settings)
    except (ValidationError, FeatlinkError) as error:
        reason = f"wrong settings: {wrong_settings(error)}" if isinstance(error, ValidationError) else str(error)
        log.error("cannot start", reason=reason)
        raise SystemExit(_exit_code(error)) from None
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    app.state.stop = stop
    # uvicorn raises the signal that stopped it once more when it is done. It is no error, and no success either:
    # Docker starts again after a reboot what SIGTERM has ended, but not what ended by itself.
    signal.signal(signal.SIGTERM, _leave)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if app.state.failed:
        raise SystemExit(_exit_code(app.state.failed))


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _exit_code(error: Exception) -> int:
    """A full disk may have room later, and a mistake of ours may not happen again; settings stay what they are."""
    refused = isinstance(error, ValidationError | FeatlinkError) and not isinstance(error, StorageError)
    return refused_exit() if refused else 1


def _loaded_config(app: FastAPI, settings: ServiceSettings) -> uvicorn.Config:
    tls = {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key} if settings.tls_cert else {}
    config = server_config(app, host=settings.host, port=settings.port, **tls)
    try:
        config.load()
    except OSError as error:  # ssl's errors too
        files = f"FEATLINK_TLS_CERT {settings.tls_cert} and FEATLINK_TLS_KEY {settings.tls_key}"
        raise FeatlinkError(f"{files}: {error}") from None
    return config


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
        proxy_headers=False,  # `Forwarded` reads them, and the host among them
        timeout_graceful_shutdown=STOP_SECONDS,
        **options,
    )


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with bounded heads, and time-outs for heads and for answers that nobody reads.

    An offer to speak another protocol, such as ``Upgrade: h2c``, is passed over (RFC 9110, 7.8).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser: Any = _Parser(self, self.parser)
        self._in_head = True
        self._too_long = False
        self._not_body = 0  # bytes since the request began that were no part of its body
        self._body = self._body_before = 0  # bytes of all bodies, and of those before this request's
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    @property
    def is_offer(self) -> bool:
        """Whether the request, whose head has come, offers to speak another protocol."""
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._cancel_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and give up on a head that is too long."""
        body = self._body
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._not_body += len(data) - (self._body - body)
        # a chunk of one byte is framed by five more
        if self._not_body > HEAD_BYTES + (0 if self._in_head else 8 * (self._body - self._body_before)):
            self._refuse_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head, self._not_body, self._body_before = True, 0, self._body
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are of no use here, and ignored."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there, or too long although it came at once."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            self._too_long = True
            raise httptools.HttpParserError("head too long")
        if self.is_offer:
            return  # the parser comes back without it
        self._in_head = False
        self._cancel_head_timer()
        self._not_body = -HEAD_BYTES  # the head may have come in one piece with much else
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is there, unless its head will be read once more."""
        if not self.is_offer:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What does not parse, heads that are too long among it."""
        if self._too_long:
            self._refuse_head()
        else:
            super().send_400_response(msg)

    def on_body(self, body: bytes) -> None:
        """Some of the body came."""
        self._body += len(body)
        if self.cycle is not None and not self.cycle.body:
            self.cycle.body = b""  # type: ignore[assignment]  # what is added to it is then handed on without a copy
        super().on_body(body)

    def pause_writing(self) -> None:
        """The client does not read: it has some time to begin again."""
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cancel_timers(self) -> None:
        self._cancel_head_timer()
        if self._read_timer is not None:
            self._read_timer.cancel()

    def _refuse_head(self) -> None:
        self._cancel_timers()
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # an answer to an earlier request is on its way, or this one's body goes astray
            return
        detail = f"the request's line and headers exceed {HEAD_BYTES} bytes"
        body = problems.problem(431, "Request Header Fields Too Large", detail).body
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
        self.transport.write(head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        self.transport.close()


class _Parser:
    """httptools' parser, which does not stop at an offer to speak another protocol: the body would be lost.

    It reads the head once more, without the offer.
    """

    def __init__(self, connection: Connection, parser: httptools.HttpRequestParser) -> None:
        self._connection = connection
        self._parser = parser

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        """Parse some bytes, with the same errors as httptools."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            if not self._connection.is_offer:
                raise
            version = self._parser.get_http_version().encode()
            lines = [b"%s %s HTTP/%s" % (self._parser.get_method(), self._connection.url, version)]
            lines += [b"%s: %s" % header for header in self._connection.headers if header[0] != b"upgrade"]
            self._parser = httptools.HttpRequestParser(self._connection)
            self._parser.feed_data(b"\r\n".join([*lines, b"", b""]))
            self.feed_data(data[stopped.args[0] :])
