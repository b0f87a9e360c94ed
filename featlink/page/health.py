"""The services: up or not, versions, weights, queue, throughput; and what they do when they are not told."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import Any

from nicegui import ui
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from featlink.page import layout
from featlink.page.context import Context
from featlink.page.fields import field as form_field
from featlink.page.services import NAMES, Name, ServiceError
from featlink.shared.conditions.language import parse
from featlink.shared.errors import FeatlinkError

_EVERY_S = 2.0
_WINDOW_S = 30.0

_FACTS = ("version", "model", "weights", "profile", "device")
_PATHS = ("/v1/infer", "/v1/features", "/v1/transmit", "/v1/distort", "/v1/detect")


@dataclass
class Figures:
    """A service's metrics at one time.

    Attributes:
        at: seconds on the monotonic clock.
        in_flight: requests not yet answered.
        answered, failed: requests for inference so far, and those of them answered with 5xx.
        seconds: their time together.
        facts: what the service says of itself.
    """

    at: float
    in_flight: int = 0
    answered: float = 0
    failed: float = 0
    seconds: float = 0
    link_bits: float = 0
    facts: dict[str, str] = field(default_factory=dict)


def read_metrics(text: str, at: float) -> Figures:
    """Figures from Prometheus' text format.

    Args:
        text: of ``GET /metrics``.
        at: when it was asked.
    """
    found = Figures(at)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            work = sample.labels.get("route") in _PATHS
            if sample.name == "featlink_requests_in_flight":
                found.in_flight = int(sample.value)
            elif sample.name == "featlink_requests_total" and work:
                found.answered += sample.value
                found.failed += sample.value if sample.labels["status"].startswith("5") else 0
            elif sample.name == "featlink_request_seconds_sum" and work:
                found.seconds += sample.value
            elif sample.name == "featlink_link_bits_total":
                found.link_bits += sample.value
            elif sample.name == "featlink_service_info":
                found.facts = dict(sample.labels)
    return found


def throughput(history: deque[Figures]) -> tuple[float, float | None]:
    """Requests a second over the window, and their mean time in ms; None without any."""
    first, last = history[0], history[-1]
    answered, seconds = last.answered - first.answered, last.at - first.at
    if answered <= 0 or seconds <= 0:
        return 0.0, None
    return answered / seconds, 1e3 * (last.seconds - first.seconds) / answered


def add_page(context: Context) -> None:
    """Put the services' health at ``/health``."""

    @ui.page("/health", title="Featlink health")
    def health(request: Request) -> None:
        with layout.frame("/health", request.cookies):
            HealthView(context).build()


class HealthView:
    """One visitor's view of the services.

    Args:
        context: shared with others.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._history: dict[Name, deque[Figures]] = {name: deque() for name in NAMES}
        self._link: dict[str, Any] = {}

    def build(self) -> None:
        """Make the elements; a timer fills them."""
        ui.html("<h1>Services</h1>", sanitize=False)
        with ui.element("div").classes("services"):
            self._cards = {name: ui.html("", tag="section", sanitize=False).classes("card service") for name in NAMES}
        with ui.element("section").classes("card defaults").props('aria-label="The channel\'s defaults"'):
            ui.html(
                "<h2>The channel's defaults</h2><p class='quiet'>They hold for requests that bring no condition or no "
                "link of their own, of every client. The playground brings its own.</p>",
                sanitize=False,
            )
            self._told = ui.html("", sanitize=False).props('role="status"')
            self._defaults = ui.element("div")
        for name in NAMES:
            ui.timer(_EVERY_S, lambda name=name: self._refresh(name))
        ui.timer(0, self._build_defaults, once=True)

    async def _refresh(self, name: Name) -> None:
        services = self._context.services
        try:
            at = time.monotonic()
            text = (await services.send(name, "GET", "/metrics", timeout=5)).text
        except ServiceError as error:
            self._history[name].clear()
            self._cards[name].content = _card(name, "down", services.urls[name], [("", str(error))])
            return
        try:
            await services.send(name, "GET", "/readyz", timeout=5)
            state, why = "ready", ""
        except ServiceError as error:
            state, why = "not ready", str(error)
        history = self._history[name]
        history.append(read_metrics(text, at))
        while history[-1].at - history[0].at > _WINDOW_S:
            history.popleft()
        self._cards[name].content = _card(name, state, services.urls[name], self._rows(name, why))

    def _rows(self, name: Name, why: str) -> list[tuple[str, str]]:
        history = self._history[name]
        now = history[-1]
        rate, mean = throughput(history)
        rows = [("", why)] if why else []
        facts = dict(now.facts)
        most = facts.pop("max_requests", "?")
        rows += [(label.capitalize(), facts[label]) for label in _FACTS if label in facts]
        rows += [
            ("In work or waiting", f"{now.in_flight} of at most {most}"),
            (f"Throughput, last {_WINDOW_S:.0f} s", f"{rate:.2f} a second"),
            ("Mean time", "–" if mean is None else f"{mean:,.0f} ms"),
            ("Answered since start", f"{now.answered:,.0f}" + (f", {now.failed:,.0f} failed" if now.failed else "")),
        ]
        if name == "channel":
            rows.append(("Over the link since start", f"{now.link_bits / 8e6:,.1f} MB"))
        return rows

    async def _build_defaults(self) -> None:
        services = self._context.services
        try:
            condition = await services.get("channel", "/v1/condition")
            self._link = await services.get("channel", "/v1/link")
            catalogue = await self._context.catalogue()
        except ServiceError as error:
            self._told.content = f"<p class='banner waiting'>{escape(str(error))}</p>"
            return
        with self._defaults:
            with ui.element("div").classes("row-tight"):
                text = ui.input("Condition", value=condition["text"]).props("dense outlined").classes("grow")
                ui.button("Set", on_click=lambda: self._put("/v1/condition", text.value)).props(
                    'no-caps unelevated aria-label="Set the condition"'
                )
            ui.html("<h2>Link</h2>", sanitize=False)
            with ui.element("div").classes("link-fields"):
                for control in catalogue.link:
                    form_field(
                        control,
                        self._link.get(control.name, control.default),
                        partial(self._link.__setitem__, control.name),
                    )
            ui.button("Set the link", on_click=lambda: self._put("/v1/link", self._link)).props("no-caps unelevated")

    async def _put(self, path: str, body: Any) -> None:
        try:
            if isinstance(body, str):
                parse(body)
            await self._context.services.send("channel", "PUT", path, json=body)
        except FeatlinkError as error:
            self._told.content = f"<p class='banner error'>{escape(str(error))}</p>"
            return
        self._told.content = "<p class='banner ok'>Set.</p>"


def _card(name: str, state: str, url: str, rows: list[tuple[str, str]]) -> str:
    body = "".join(
        f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" if label else f"<dd class='why'>{escape(value)}</dd>"
        for label, value in rows
    )
    return (
        f'<div class="service-head"><h2>{name}</h2><span class="state {state.replace(" ", "-")}" role="status">{state}'
        f'</span></div><p class="quiet"><a href="{escape(url)}/docs">{escape(url)}</a></p><dl>{body}</dl>'
    )
