"""Per request: a trace id, one log line, Prometheus metrics."""

from __future__ import annotations

import contextlib
import logging
import time

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featlink.shared.service import notes, problems, tracing

log = structlog.get_logger()
_QUIET = {"/livez", "/readyz", "/metrics"}
"""What watches a service: not logged, and not its load."""


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


class Observe:
    """ASGI middleware that traces, counts and logs every request, and answers unexpected errors.

    It answers them itself because Starlette's own handler of such errors is outside every middleware: its answers
    would be neither counted nor carry a request id.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        trace = tracing.enter(headers.get(b"traceparent", b"").decode("latin-1"))
        metrics, started, status = self._metrics, time.monotonic(), 0
        noted = notes.begin()

        async def counted_receive() -> Message:
            message = await receive()
            metrics.bytes_in.inc(len(message.get("body", b"")))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", trace.encode())]
            metrics.bytes_out.inc(len(message.get("body", b"")))
            await send(message)

        quiet = scope["path"] in _QUIET
        load = contextlib.nullcontext() if quiet else metrics.in_flight.track_inprogress()
        with structlog.contextvars.bound_contextvars(trace_id=trace), load:
            try:
                await self._app(scope, counted_receive, counted_send)
            except Exception as error:
                log.error("unexpected error", path=scope["path"], exc_info=error)
                if status:  # the answer has begun: only cutting it off can tell the client
                    raise
                await problems.unexpected(scope["path"])(scope, receive, counted_send)
            finally:
                seconds, status = time.monotonic() - started, status or 500
                route = getattr(scope.get("route"), "path", "unmatched")
                metrics.requests.labels(scope["method"], route, status).inc()
                metrics.latency.labels(scope["method"], route).observe(seconds)
                write = log.debug if quiet else log.info
                line = {
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": round(seconds * 1e3, 1),
                }
                write("request", **{**noted, **line})


def configure_logging(service: str, level: str) -> None:
    """Log structured JSON lines to stdout, each naming its service and request."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            lambda _, __, event: {"service": service, **event},
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(),
    )
