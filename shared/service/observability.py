"""Logs, request ids, Prometheus metrics and OpenTelemetry spans of a service.

A request's id is the trace id of W3C's ``traceparent``: it travels from the edge to the cloud, and stands in every log
line, every answer (``x-request-id``) and every span.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from featlink.shared.errors import FeatlinkError
from featlink.shared.service import problems

if TYPE_CHECKING:  # an optional dependency
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger()
_PROBES = {"/livez", "/readyz", "/metrics"}
"""What watches a service: not logged, and not its load."""
_LONGEST_TEXT = 500
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


def bind(**fields: Any) -> None:
    """Add to the log lines and the span of the current request; None adds nothing."""
    bind_contextvars(**{name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True)
class _Trace:
    id: str = ""
    flags: str = "01"
    span: str = ""


_NO_TRACE = _Trace()
_trace: ContextVar[_Trace] = ContextVar("trace", default=_NO_TRACE)


def enter_trace(traceparent: str | None) -> str:
    """Continue the caller's trace, or begin one.

    Args:
        traceparent: the request's header, if any; a malformed one is ignored, as the standard asks.

    Returns:
        The trace id, 32 hex digits.
    """
    match = _TRACEPARENT.fullmatch(traceparent or "")
    trace = _Trace(match[1], match[2]) if match else _Trace(secrets.token_hex(16))
    _trace.set(trace)
    return trace.id


def traceparent() -> str:
    """The header for a request made on behalf of the current one."""
    trace = _trace.get()
    return f"00-{trace.id or secrets.token_hex(16)}-{trace.span or secrets.token_hex(8)}-{trace.flags}"


class Metrics:
    """A service's Prometheus metrics, in a registry of their own so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter("featlink_requests", "Requests answered.", (*labels, "status"), registry=self.registry)
        self.latency = Histogram(
            "featlink_request_seconds",
            "Time from the request's first byte to the answer's last.",
            labels,
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "featlink_requests_in_flight",
            "Requests not yet answered, health checks and requests for metrics left out.",
            registry=self.registry,
        )
        self.bytes_in = Counter("featlink_received_bytes", "Body bytes received.", registry=self.registry)
        self.bytes_out = Counter("featlink_sent_bytes", "Body bytes sent.", registry=self.registry)
        self.link_bits = Counter(
            "featlink_link_bits", "Bits that crossed the simulated link.", ("domain",), registry=self.registry
        )
        self._info = Info("featlink_service", "What runs here.", registry=self.registry)
        self._facts: dict[str, str] = {}

    def describe(self, **facts: object) -> None:
        """Say more of what runs here, as labels of ``featlink_service_info``."""
        self._facts |= {name: str(value) for name, value in facts.items()}
        self._info.info(self._facts)


def tracer_provider(service: str, endpoint: str) -> TracerProvider:
    """What makes spans and sends them by OTLP over HTTP, in a thread of its own; what cannot be sent is dropped.

    Args:
        service: ``edge``, ``channel`` or ``cloud``.
        endpoint: base URL of a collector, such as ``http://127.0.0.1:4318``.

    Raises:
        FeatlinkError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    except ImportError:
        raise FeatlinkError("FEATLINK_OTLP_ENDPOINT needs OpenTelemetry: pip install 'featlink[otel]'") from None

    class Ids(RandomIdGenerator):
        """A trace that begins here has the id that was given to the request."""

        def generate_trace_id(self) -> int:
            return int(_trace.get().id or "0", 16) or super().generate_trace_id()

    about = {"service.name": f"featlink-{service}", "service.version": version("featlink")}
    tracers = TracerProvider(resource=Resource.create(about), id_generator=Ids())
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    return tracers


class Observe:
    """ASGI middleware that traces, counts and logs every request, and answers unexpected errors.

    It answers them itself because Starlette's own handler of such errors is outside every middleware: its answers
    would be neither counted nor carry a request id.

    Args:
        app: what answers.
        metrics: what it counts in.
        tracers: what makes spans; None for none.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracers: TracerProvider | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracers = tracers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clear_contextvars()
        header = Headers(scope=scope).get("traceparent")
        trace_id = enter_trace(header)
        bind(trace_id=trace_id)
        metrics, started, status = self._metrics, time.monotonic(), 0

        async def counted_receive() -> Message:
            message = await receive()
            metrics.bytes_in.inc(len(message.get("body", b"")))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", trace_id.encode())]
            metrics.bytes_out.inc(len(message.get("body", b"")))
            await send(message)

        probe = problems.path_below(scope) in _PROBES
        no_span = contextlib.nullcontext(dict[str, Any]())
        span = no_span if probe or self._tracers is None else _span(self._tracers, scope, header)
        load = contextlib.nullcontext() if probe else metrics.in_flight.track_inprogress()
        with load, span as attributes:
            try:
                await self._app(scope, counted_receive, counted_send)
            except Exception as error:
                log.error("unexpected error", path=scope["path"], exc_info=error)
                if status:  # the answer has begun: only cutting it off can tell the client
                    raise
                await problems.unexpected(scope["path"])(scope, receive, counted_send)
            finally:
                seconds, status = time.monotonic() - started, status or 500
                method, route = scope["method"], getattr(scope.get("route"), "path", "unmatched")
                metrics.requests.labels(method, route, status).inc()
                metrics.latency.labels(method, route).observe(seconds)
                attributes |= {"http.route": route, "http.response.status_code": status}
                write = log.debug if probe else log.error if status >= 500 else log.info
                write("request", method=method, path=scope["path"], status=status, ms=round(seconds * 1e3, 1))


@contextlib.contextmanager
def _span(tracers: TracerProvider, scope: Scope, traceparent: str | None) -> Iterator[dict[str, Any]]:
    """A span for a request; what is put into the dict becomes its attributes, as does what the request bound."""
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    caller = TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {}, Context())
    method = scope["method"]
    tracer = tracers.get_tracer("featlink")
    with tracer.start_as_current_span(method, context=caller, kind=trace.SpanKind.SERVER) as span:
        _trace.set(replace(_trace.get(), span=format(span.get_span_context().span_id, "016x")))
        attributes: dict[str, Any] = {"http.request.method": method}
        try:
            yield attributes
        finally:
            bound = _shortened(get_contextvars())
            attributes |= {f"featlink.{name}": value for name, value in bound.items() if name != "trace_id"}
            span.set_attributes(attributes)
            span.update_name(f"{method} {attributes['http.route']}")
            if attributes["http.response.status_code"] >= 500:
                span.set_status(trace.StatusCode.ERROR)


def _shortened(fields: MutableMapping[str, Any]) -> dict[str, Any]:
    return {name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in fields.items()}


def configure_logging(service: str, level: str) -> None:
    """Log JSON lines to stdout, each naming its service and request: ours, and what libraries log or warn of."""

    def named(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        return {"service": service, **event}

    fields: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        lambda _, __, event: _shortened(event),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    line: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        named,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*fields, *line],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stdout)
    without_record = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=fields, processors=[without_record, *line])
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
