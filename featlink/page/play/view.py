"""The playground's page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from nicegui import ui
from starlette.requests import Request

from featlink.page import layout
from featlink.page.catalogue import Value
from featlink.page.context import Catalogue, Context
from featlink.page.fields import field, words
from featlink.page.latest import Latest
from featlink.page.pictures import scene_path
from featlink.page.play import results
from featlink.page.play.chain import ChainEditor
from featlink.page.play.copying import Copying
from featlink.page.play.picker import Picker
from featlink.page.play.state import FIRST, SENDS, State, restore
from featlink.page.play.work import Clean, Received
from featlink.page.services import ServiceError
from featlink.shared.conditions.language import Domain
from featlink.shared.errors import FeatlinkError

_FIRST_S = 0.05  # what the picture is ahead of its figures, so that the browser shows it first
_SENDS = {"feature": "Features", "image": "Pixels", "both": "Both"}


def add_page(context: Context) -> None:
    """Put the playground at ``/``."""

    @ui.page("/", title="Featlink playground")
    def playground(request: Request) -> None:
        state, wrong = restore(request.query_params)
        with layout.frame("/", request.cookies):
            Playground(context, state, str(request.base_url).rstrip("/")).build(wrong)


class Playground:
    """One visitor's playground.

    Args:
        context: shared with others.
        state: to begin with.
        address: of the page, for copied lines.
    """

    def __init__(self, context: Context, state: State, address: str) -> None:
        self._context = context
        self._state = state
        self._address = address
        self._asked: Latest[State] = Latest(self._answer)
        self._shown: dict[Domain, Received] = {}
        self._clean: Clean | None = None
        self._editor: ChainEditor | None = None

    def build(self, wrong: list[str]) -> None:
        """Make the elements; what the services offer follows when they answer.

        Args:
            wrong: what in the address could not be read.
        """
        ui.html("<h1>Send a picture as pixels or as features</h1>", sanitize=False).classes("hidden-heading")
        self._banner = ui.element("div").classes("banner").props('role="status" aria-live="polite"')
        self._banner.set_visibility(False)
        with ui.element("div").classes("play"):
            with ui.element("section").classes("controls").props('aria-label="Settings"'):
                self._build_controls()
            with ui.element("section").classes("results").props('aria-label="Result"'):
                self._build_results()
        self._retry = ui.timer(1.0, self._again, active=False)
        if wrong:
            self._tell(" ".join(wrong), "error")
        ui.timer(0, lambda: self._begin(keep_banner=bool(wrong)), once=True)

    def _build_controls(self) -> None:
        with _card("Picture"):
            self._picker = Picker(
                self._state.picture,
                lambda key: self._change(replace(self._state, picture=key)),
                lambda why: self._tell(why, "error"),
            )
        with _card("Send"):
            self._send = ui.toggle(_SENDS, value=self._state.send, on_change=lambda e: self._sends(e.value))
            self._send.props('no-caps unelevated spread aria-label="What crosses the link"')
        self._chain = _card("What happens on the way")
        with self._chain:
            ui.skeleton(height="120px")
        self._link_card = ui.expansion("Link", icon="cell_tower").props("dense").classes("card link")
        with self._link_card:
            self._link = ui.element("div")

    def _build_results(self) -> None:
        with ui.element("div").classes("overlays"):
            self._clean_view = results.Overlay("Clean", "clean")
            self._views: dict[Domain, results.Overlay] = {
                domain: results.Overlay(f"Received as {title.lower()}", domain)
                for domain, title in results.TITLES.items()
            }
        ui.html(
            "<p class='legend'><span><span class='chip kept'>kept</span> found in both</span> "
            "<span><span class='chip lost'>lost</span> dashed, crossed out: found in the clean picture only</span> "
            "<span><span class='chip new'>new</span> double frame: found in the received one only</span></p>",
            sanitize=False,
        )
        with ui.element("div").classes("columns"):
            with _card("Figures"):
                self._figures = ui.html("", sanitize=False).classes("scroll figures-slot")
            with _card("Where the time goes"):
                self._timing = ui.html("", sanitize=False)
        with _card("Planes of features on the link"):
            self._planes = results.Planes(
                self._state.planes, lambda level: self._change(replace(self._state, planes=level))
            )
        with ui.expansion("All detections", icon="list").props("dense").classes("card"):
            self._table = ui.html("", sanitize=False).classes("scroll")
        self._copying = Copying(self._context.settings, self._address)
        self._arrange()

    async def _begin(self, keep_banner: bool = False) -> None:
        """Show what the services offer, then the first answer."""
        try:
            catalogue = await self._context.catalogue()
        except ServiceError as error:
            self._wait(str(error))
            return
        self._build_chain(catalogue)
        self._copying.show(self._state)
        self._keep_banner = keep_banner
        self._asked.ask(self._state)

    def _build_chain(self, catalogue: Catalogue) -> None:
        self._chain.clear()
        with self._chain:
            ui.html("<h2>What happens on the way</h2>", sanitize=False)
            self._editor = ChainEditor(catalogue, lambda: self._state, self._change)
        self._link.clear()
        with self._link:
            for control in catalogue.link:
                value = self._state.link.get(control.name, control.default)
                field(control, value, partial(self._set_link, control.name, control.default))

    def _set_link(self, name: str, default: Value, value: Value) -> None:
        link = {key: old for key, old in self._state.link.items() if key != name}
        if value != default:
            link[name] = value
        self._change(replace(self._state, link=link))

    def _sends(self, send: str) -> None:
        if send in SENDS and send != self._state.send:
            self._change(replace(self._state, send=send))
            if self._editor is not None:
                self._editor.build()

    def _change(self, state: State) -> None:
        """Another setting: the address says it, and its answer is asked for."""
        self._state = state
        ui.navigate.history.replace(f"/?{state.query()}")
        self._picker.mark(state.picture)
        if self._send.value != state.send:
            self._send.value = state.send
        self._copying.show(state)
        self._arrange()
        self._keep_banner = False
        self._asked.ask(state)

    def _arrange(self) -> None:
        if self._link_card.props.get("caption") != (told := link_words(self._state.link)):
            self._link_card.props["caption"] = told
            self._link_card.update()
        for domain, view in self._views.items():
            view.visible(domain in self._state.domains)

    async def _answer(self, state: State) -> None:
        """Ask for one setting and show what comes; a newer one waits until this is done."""
        for domain in state.domains:
            self._views[domain].busy(True)
        try:
            data = self._picture(state.picture)
            clean = await self._context.work.clean(data)
            if clean is not self._clean:
                self._clean = clean
                self._clean_view.first(clean.overlay, f"{clean.found} detections found", state.picture)
                self._clean_view.settle(f'<span class="chip found">{clean.found} found</span>')
            await self._receive(data, state, clean)
        except ServiceError as error:
            self._wait(str(error)) if error.passing else self._tell(str(error), "error")
        except FeatlinkError as error:
            self._tell(f"{error.title}: {error}", "error")
        else:
            self._retry.active = False
            if not self._keep_banner:
                self._banner.set_visibility(False)
        finally:
            for view in self._views.values():
                view.busy(self._asked.waiting)

    async def _receive(self, data: bytes, state: State, clean: Clean) -> None:
        work = self._context.work
        asked = [asyncio.create_task(work.received(data, state, domain, clean)) for domain in state.domains]
        self._shown = {}
        wrong: Exception | None = None
        for done in asyncio.as_completed(asked):
            try:
                await self._show(state, clean, await done)
            except FeatlinkError as error:
                wrong = error
        if wrong is not None:
            raise wrong

    async def _show(self, state: State, clean: Clean, received: Received) -> None:
        self._shown[received.domain] = received
        mark = f"{state.picture} {state.condition_of(received.domain)} {state.link_text()}"
        view = self._views[received.domain]
        view.first(received.overlay, results.words(received), mark)
        await asyncio.sleep(_FIRST_S)
        view.settle(results.chips(received))
        shown = [self._shown[domain] for domain in state.domains if domain in self._shown]
        self._figures.content = results.figures(shown)
        self._timing.content = results.timing(shown)
        self._table.content = results.detections(clean, shown)
        self._figures.props["data-of"] = " and ".join(state.condition_of(one.domain) for one in shown)
        self._figures.update()
        if received.domain == "feature" or state.domains == ("image",):
            self._planes.show(received.planes, state.planes)

    def _picture(self, name: str) -> bytes:
        path = scene_path(name)
        data = path.read_bytes() if path is not None else self._context.uploads.get(name)
        if data is None:
            raise FeatlinkError(
                f"the picture {name} is not kept here any more; choose it again (scene {FIRST} is still there)"
            )
        return data

    def _tell(self, text: str, kind: str) -> None:
        self._banner.clear()
        self._banner.classes(remove="error waiting", add=kind)
        with self._banner:
            ui.label(text)
        self._banner.set_visibility(True)

    def _wait(self, why: str) -> None:
        self._tell(f"{why} Waiting for it…", "waiting")
        self._retry.active = True

    async def _again(self) -> None:
        """The services did not answer: go on as soon as they are ready."""
        try:
            await self._context.services.send("edge", "GET", "/readyz", timeout=5)
        except ServiceError:
            return
        self._retry.active = False
        self._context.forget()
        if self._editor is None:
            await self._begin()
        else:
            self._asked.ask(self._state)


def link_words(link: Mapping[str, Any]) -> str:
    """A link in a few words.

    Example:
        >>> link_words({"rate_mbps": 20, "loss": 0.01}), link_words({})
        ('rate (Mbit/s) 20, loss 0.01', 'takes no time, loses nothing')
    """
    return ", ".join(f"{words(name)} {value}" for name, value in link.items()) or "takes no time, loses nothing"


def _card(title: str) -> ui.element:
    card = ui.element("section").classes("card").props(f'aria-label="{title}"')
    with card:
        ui.html(f"<h2>{title}</h2>", sanitize=False)
    return card
