"""Requests as OpenTelemetry spans, sent to a collector by OTLP over HTTP. An extra: ``pip install 'featlink[otel]'``.

A span has the trace id that logs and answers carry, so that a trace is found by a request's id.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featlink.shared.errors import FeatlinkError
from featlink.shared.service import notes, tracing

if TYPE_CHECKING:  # an optional dependency
    from opentelemetry.sdk.trace import TracerProvider

_QUIET = {"/livez", "/readyz", "/metrics"}


def provider(service: str, endpoint: str) -> TracerProvider:
    """What makes spans and sends them, in a thread of its own; what cannot be sent is dropped.

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
            return int(tracing.trace_id() or "0", 16) or super().generate_trace_id()

    about = {"service.name": f"featlink-{service}", "service.version": version("featlink")}
    made = TracerProvider(resource=Resource.create(about), id_generator=Ids())
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    return made


class Spans:
    """ASGI middleware, inside :class:`featlink.shared.service.observe.Observe`: a span for each request.

    Args:
        app: what answers.
        provider: of :func:`provider`.
    """

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        self._app = app
        self._tracer = provider.get_tracer("featlink")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http" or scope["path"] in _QUIET:
            await self._app(scope, receive, send)
            return
        from opentelemetry import trace

        status = 500

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracer.start_as_current_span(
            f"{scope['method']} {scope['path']}", context=_caller(scope), kind=trace.SpanKind.SERVER
        ) as span:
            tracing.within(format(span.get_span_context().span_id, "016x"))
            try:
                await self._app(scope, receive, seen)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                span.update_name(f"{scope['method']} {route}")
                span.set_attributes({"http.request.method": scope["method"], "http.route": route})
                span.set_attribute("http.response.status_code", status)
                span.set_attributes({f"featlink.{name}": value for name, value in notes.noted().items()})
                if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    span.set_status(trace.StatusCode.ERROR)


def _caller(scope: Scope) -> Any:
    """The context that the request's ``traceparent`` names; an empty one without."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return TraceContextTextMapPropagator().extract(headers, Context())
