"""The playground: one picture on two sides, A and B, each with its own condition, over one link.

A side is a column with its controls above its picture. What arrives for a side replaces the picture in its column and
touches no other element, so that a column can show a still or the frames of a stream, one after the other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from nicegui import ui
from starlette.requests import Request

from featlink.errors import CommandError
from featlink.page import layout, results
from featlink.page import state as states
from featlink.page.context import Context, Latest, PageSettings, passing
from featlink.page.forms import Catalogue, ChainEditor, Scale, Value, field, strength, with_parameter, words
from featlink.page.pictures import Clean, Received, equal_bits, scene_path, scenes
from featlink.page.state import FIRST, STARTS, Side, State, restore
from featlink.shared.conditions.language import Condition, Domain, parse
from featlink.shared.errors import FeatlinkError

_AHEAD_S = 0.05  # what the picture is ahead of its figures, so that the browser shows it first
_FEW_SCENES = 7
_NEAR = 0.1
"""Bits within this share of the other side's need no remark."""

_VIEWS = {"detections": "Detections", "difference": "Difference"}
_LEGENDS = {
    "detections": (
        "<span><span class='chip kept'>kept</span> found in both</span> "
        "<span><span class='chip lost'>lost</span> dashed, crossed out: found in the clean picture only</span> "
        "<span><span class='chip new'>new</span> double frame: found in the received one only</span> "
        "<span>Press on a picture to see the clean one.</span>"
    ),
    "difference": (
        "<span class='heat' aria-hidden='true'></span> mean error of the samples, 0 to 64 of 255; of features, in the "
        "level whose planes are shown, or else in the middle one."
    ),
}


def add_page(context: Context) -> None:
    """Put the playground at ``/``."""

    @ui.page("/", title="Featlink playground")
    def playground(request: Request) -> None:
        state, wrong = restore(request.query_params)
        root = layout.root_path(request)
        address = f"{request.url.scheme}://{request.url.netloc}{root}"
        named = any(name in request.query_params for name in ("a", "b", "condition"))
        with layout.frame("/", request):
            Playground(context, state, root, address, first_visit=not named).build(wrong)


class Playground:
    """One visitor's playground.

    Args:
        context: shared with others.
        state: to begin with.
        root: path below which the page is served.
        address: of the page, for copied lines.
        first_visit: whether another comparison may take the place of one that the deployment refuses.
    """

    def __init__(self, context: Context, state: State, root: str, address: str, first_visit: bool) -> None:
        self._context = context
        self._state = state
        self._root = root
        self._address = address
        self._first_visit = first_visit
        self._asked: Latest[State] = Latest(self._answer)
        self._received: dict[Side, Received] = {}
        self._questions: dict[Side, tuple[object, ...]] = {}
        self._clean: Clean | None = None
        self._catalogue: Catalogue | None = None
        self._keep_banner = False

    def build(self, wrong: list[str]) -> None:
        """Make the elements; what the services offer follows when they answer.

        Args:
            wrong: what in the address could not be read.
        """
        ui.html("<h1>One picture, sent in two ways</h1>", sanitize=False).classes("hidden-heading")
        self._banner = ui.element("div").classes("banner").props('role="status" aria-live="polite"')
        self._banner.set_visibility(False)
        with ui.element("div").classes("play"):
            with ui.element("section").classes("controls").props('aria-label="Picture and link"'):
                with _card("Picture"):
                    self._picker = Picker(
                        self._state.picture,
                        self._root,
                        lambda key: self._change(replace(self._state, picture=key)),
                        lambda why: self._tell(why, "error"),
                    )
                    self._clean_view = Overlay("Clean", "clean", self._root)
                self._link_card = ui.expansion("Link", icon="cell_tower").props("dense").classes("card link")
                with self._link_card:
                    self._link = ui.element("div")
            with ui.element("section").classes("results").props('aria-label="Comparison"'):
                self._build_results()
        self._retry = ui.timer(1.0, self._again, active=False)
        if wrong:
            self._tell(" ".join(wrong), "error")
        ui.timer(0, lambda: self._begin(keep_banner=bool(wrong)), once=True)

    def _build_results(self) -> None:
        with ui.element("div").classes("verdict-line"):
            self._verdict = ui.html("", tag="p", sanitize=False).classes("verdict").props('role="status"')
            self._view = ui.toggle(_VIEWS, value=self._state.view, on_change=lambda e: self._look(e.value))
            self._view.props('dense no-caps unelevated aria-label="View"')
        self._versus = Overlay("Which side kept what", "versus", self._root)
        with ui.element("div").classes("sides") as self._sides:
            self._views: dict[Side, SideView] = {}
            for side in ("a", "b"):
                self._views[side] = SideView(side, self._root, self._side_change, self._match)
        self._legend = ui.html("", tag="p", sanitize=False).classes("legend")
        with ui.element("div").classes("columns"):
            with _card("Figures"):
                self._figures = ui.html("", sanitize=False).classes("scroll figures-slot")
            with _card("Where the time goes"):
                self._timing = ui.html("", sanitize=False)
        self._planes_card = ui.expansion("Planes of features on the link", icon="grid_on").props("dense")
        self._planes_card.classes("card")
        self._planes_card.value = bool(self._state.planes)
        with self._planes_card:
            self._planes = Planes(self._root, lambda level: self._change(replace(self._state, planes=level)))
        with ui.expansion("All detections", icon="list").props("dense").classes("card"):
            self._table = ui.html("", sanitize=False).classes("scroll")
        self._copying = Copying(self._context.settings, self._address)
        self._arrange()

    async def _begin(self, keep_banner: bool = False) -> None:
        """Show what the services offer, then the first answer."""
        try:
            self._catalogue = await self._context.catalogue()
        except CommandError as error:
            self._wait(str(error))
            return
        catalogue = self._catalogue
        for view in self._views.values():
            view.offer(catalogue)
        if (level := self._state.planes) and catalogue.levels and level not in catalogue.levels:
            self._state = replace(self._state, planes="")
            self._tell(f"The address names no level {level!r}.", "error")
            keep_banner = True
        self._planes.offer(catalogue.levels, self._state.planes)
        self._link.clear()
        with self._link:
            for control in catalogue.link:
                value = self._state.link.get(control.name, control.default)
                field(control, value, partial(self._set_link, control.name, control.default))
        self._copying.show(self._state)
        self._keep_banner = keep_banner
        self._asked.ask(self._state)

    def _set_link(self, name: str, default: Value, value: Value) -> None:
        link = {key: old for key, old in self._state.link.items() if key != name}
        if value != default:
            link[name] = value
        self._change(replace(self._state, link=link))

    def _look(self, view: str) -> None:
        if view in _VIEWS and view != self._state.view:
            self._change(replace(self._state, view="difference" if view == "difference" else "detections"))

    def _side_change(self, side: Side, condition: Condition | None) -> None:
        self._change(self._state.with_side(side, condition))

    def _change(self, state: State) -> None:
        """Another setting: the address says it, and its answer is asked for."""
        self._state = state
        self._first_visit = False
        ui.navigate.history.replace(f"{self._root}/?{state.query()}")
        self._picker.mark(state.picture)
        self._copying.show(state)
        self._arrange()
        self._keep_banner = False
        self._asked.ask(state)

    def _arrange(self) -> None:
        """Bring the elements in line with the state."""
        state = self._state
        if self._link_card.props.get("caption") != (caption := link_words(state.link)):
            self._link_card.props["caption"] = caption
            self._link_card.update()
        for side, view in self._views.items():
            view.set(state.sides.get(side), alone=len(state.sides) == 1)
        if self._view.value != state.view:
            self._view.value = state.view
        self._versus.figure.set_visibility(state.view == "difference" and len(state.sides) == 2)
        self._legend.content = _LEGENDS[state.view]

    def _question(self, state: State, side: Side) -> tuple[object, ...]:
        """What a side's answer depends on."""
        return state.picture, str(state.sides[side]), state.link_text(), state.view, state.planes

    async def _answer(self, state: State) -> None:
        """Ask for what has changed and show what comes; a newer setting waits until this is done."""
        for side in [side for side in self._received if side not in state.sides]:
            del self._received[side], self._questions[side]
        asked: list[Side] = [side for side in state.sides if self._questions.get(side) != self._question(state, side)]
        for side in asked:
            self._views[side].overlay.busy(True)
        try:
            data = self._picture(state.picture)
            clean = await self._context.inference.clean(data)
            if clean is not self._clean:
                self._clean = clean
                self._clean_view.first(clean.overlay, f"{clean.count} detections found", state.picture)
                self._clean_view.settle(f'<span class="chip found">{clean.count} found</span>')
            await self._receive(data, state, clean, asked)
        except CommandError as error:
            if passing(error):
                self._wait(str(error))
            elif self._first_visit:
                self._first_visit = False
                a, b = (parse(text) for text in STARTS[-1])
                with self._sides:  # a task of its own has no place among the elements
                    self._change(replace(state, a=a, b=b))
            else:
                self._tell(str(error), "error")
        except FeatlinkError as error:
            self._tell(f"{error.title}: {error}", "error")
        else:
            self._first_visit = False
            self._retry.active = False
            if not self._keep_banner:
                self._banner.set_visibility(False)
        finally:
            for side in asked:
                self._views[side].overlay.busy(self._asked.waiting)

    async def _receive(self, data: bytes, state: State, clean: Clean, asked: list[Side]) -> None:
        inference = self._context.inference
        tasks = [asyncio.create_task(inference.received(data, state, side, clean)) for side in asked]
        wrong: Exception | None = None
        for done in asyncio.as_completed(tasks):
            try:
                await self._show(state, clean, await done)
            except FeatlinkError as error:
                wrong = error
        if wrong is not None:
            raise wrong
        if not asked:
            self._show_both(state, clean)
        if state.view == "difference" and len(self._received) == 2:
            key = await inference.versus(clean, [self._received[side] for side in state.sides])
            self._versus.first(key, "which side kept which detection", state.query())

    async def _show(self, state: State, clean: Clean, received: Received) -> None:
        side = received.side
        self._received[side] = received
        self._questions[side] = self._question(state, side)
        mark = f"{state.picture} {received.condition} {state.link_text()}"
        overlay = self._views[side].overlay
        overlay.first(received.error or received.overlay, results.in_words(received), mark)
        await asyncio.sleep(_AHEAD_S)
        overlay.busy(self._asked.waiting)
        size, came = results.size(received.result.bits), results.units(received.result.packets)
        overlay.settle(f"<b class='size'>{size}</b> {came} {results.chips(received.matching)}")
        self._show_both(state, clean)

    def _show_both(self, state: State, clean: Clean) -> None:
        """What is told of the sides together."""
        sides = [self._received[side] for side in state.sides if side in self._received]
        complete = len(sides) == len(state.sides)
        if complete:
            self._verdict.content = results.verdict(sides)
        self._figures.content = results.figures(sides)
        self._timing.content = results.waterfall(
            {results.title(one): results.stage_bars(one.result.timings) for one in sides}
        )
        self._table.content = results.detections(clean, sides)
        self._figures.props["data-of"] = " and ".join(str(one.condition) for one in sides)
        self._figures.update()
        planes = next((one for one in sides if one.planes is not None), None)
        self._planes.show(planes if state.planes else None, state.planes)

    async def _match(self, side: Side) -> None:
        """Find the strength with which a side sends as many bits as the other."""
        state, catalogue = self._state, self._catalogue
        other = next((one for one in state.sides if one != side), None)
        target = None if other is None else self._received.get(other)
        if catalogue is None or target is None or other is None:
            return
        condition = state.sides[side]
        tradeable = strength(condition, catalogue)
        if tradeable is None:
            self._tell(f"Side {side.upper()} has no step whose strength changes its bits; add a codec.", "error")
            return
        place, control = tradeable
        view, data = self._views[side], self._picture(state.picture)
        wanted = target.result.bits or 1

        async def bits(value: float) -> int:
            count = await self._context.inference.bits(
                data, with_parameter(condition, catalogue, place, control.name, value)
            )
            view.overlay.settle(f"<span class='quiet'>{words(control.name)} {value:g}: {results.size(count)}</span>")
            return count

        start = condition.steps[place].params.get(control.name, control.start)
        view.searching(True)
        try:
            value, count = await equal_bits(bits, Scale(control), float(start or control.low), wanted)
        except FeatlinkError as error:
            self._tell(str(error), "error")
            return
        finally:
            view.searching(False)
        if self._state is not state:  # moved meanwhile
            return
        self._questions.pop(side, None)
        self._change(state.with_side(side, with_parameter(condition, catalogue, place, control.name, value)))
        view.rebuild()
        if abs(count - wanted) > _NEAR * wanted:
            self._tell(
                f"Side {side.upper()} comes no nearer to {results.size(wanted)} than {results.size(count)}, with "
                f"{words(control.name)} {value:g}.",
                "waiting",
            )
            self._keep_banner = True

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
        self._tell(f"{why.rstrip('.')}. Waiting for it…", "waiting")
        self._retry.active = True

    async def _again(self) -> None:
        """The services did not answer: go on as soon as they are ready."""
        try:
            await self._context.ask(self._context.client.ready, "edge")
        except CommandError:
            return
        self._retry.active = False
        self._context.forget()
        if self._catalogue is None:
            await self._begin()
        else:
            self._asked.ask(self._state)


class SideView:
    """One side: what it sends, its chain, and what arrives.

    Args:
        side: ``a`` or ``b``.
        root: path below which the page is served.
        change: called with the side and its new condition; None removes it.
        match: called to make its bits equal to the other side's.
    """

    def __init__(
        self,
        side: Side,
        root: str,
        change: Callable[[Side, Condition | None], None],
        match: Callable[[Side], Any],
    ) -> None:
        self._side: Side = side
        self._change = change
        self._condition = parse(STARTS[0]["ab".index(side)])
        self._of_domain: dict[Domain, Condition] = {parse(text).domain: parse(text) for text in STARTS[0]}
        self._editor: ChainEditor | None = None
        letter, other = side.upper(), "B" if side == "a" else "A"
        self._empty = ui.element("section").classes("side empty")
        with self._empty:
            ui.button("Compare with a second side", icon="add", on_click=lambda: change(side, self._condition)).props(
                "no-caps outline"
            )
        self._section = ui.element("section").classes("side").props(f'data-side="{side}" aria-label="Side {letter}"')
        with self._section:
            with ui.element("div").classes("side-head"):
                self._badge = ui.html("", tag="span", sanitize=False)
                self._send = ui.toggle(
                    {"feature": "Features", "image": "Pixels"}, on_change=lambda e: self._sends(e.value)
                )
                self._send.props(f'dense no-caps unelevated aria-label="Side {letter} sends"')
                self._match = ui.button(f"Match bits of {other}", on_click=lambda: match(side)).props(
                    f'no-caps outline dense aria-label="Give side {letter} the bits of side {other}"'
                )
                self._match.tooltip(f"Find the strength with which {letter} sends as many bits as {other}")
                if side == "b":
                    ui.button(icon="close", on_click=lambda: change(side, None)).props(
                        f'flat round dense size=sm aria-label="Remove side {letter}"'
                    )
            self._controls = ui.element("div").classes("side-controls")
            with self._controls:
                ui.skeleton(height="110px")
            self.overlay = Overlay("Received", side, root)

    def offer(self, catalogue: Catalogue) -> None:
        """Build the chain's controls of what the channel offers."""
        self._controls.clear()
        with self._controls:
            self._editor = ChainEditor(catalogue, lambda: self._condition, self._commit)

    def set(self, condition: Condition | None, alone: bool) -> None:
        """Show another condition.

        Args:
            condition: None where there is no such side.
            alone: whether there is no other side.
        """
        self._section.set_visibility(condition is not None)
        self._empty.set_visibility(condition is None)
        self._match.set_visibility(not alone)
        if condition is None:
            return
        rebuild = condition != self._condition
        self._condition = condition
        self._of_domain[condition.domain] = condition
        self._badge.content = f'<span class="badge {condition.domain}">{self._side.upper()}</span>'
        self._section.classes(remove="feature image", add=condition.domain)
        if self._send.value != condition.domain:
            self._send.value = condition.domain
        if rebuild:
            self.rebuild()

    def rebuild(self) -> None:
        """Build the chain's controls anew."""
        if self._editor is not None:
            self._editor.build()

    def searching(self, searching: bool) -> None:
        """Show that a strength is looked for."""
        self._match.set_enabled(not searching)
        self._match.props(add="loading") if searching else self._match.props(remove="loading")

    def _commit(self, condition: Condition) -> None:
        """A condition of the editor, which shows it already."""
        self._condition = condition
        self._change(self._side, condition)

    def _sends(self, domain: Domain | None) -> None:
        """The same chain in the other domain, or where that has not all of its steps, the last one used there."""
        if domain is None or domain == self._condition.domain:
            return
        condition = self._condition.model_copy(update={"domain": domain})
        if self._editor is None or not self._editor.allows(condition):
            condition = self._of_domain[domain]
        self._change(self._side, condition)


class Overlay:
    """A captioned picture.

    Args:
        title: its heading.
        name: of its class, and its ``data-view``.
        root: path below which the page is served.
    """

    def __init__(self, title: str, name: str, root: str) -> None:
        self._root = root
        with ui.element("figure").classes(f"overlay {name}").props(f'data-view="{name}"') as self.figure:
            with ui.element("figcaption"):
                ui.html(f"<b>{title}</b>", tag="span", sanitize=False)
                self._caption = ui.html("", tag="span", sanitize=False).classes("told")
            with ui.element("div").classes("picture"):
                self._image = ui.element("img").props(f'alt="{title}" draggable="false"')
                self._image.classes("empty")

    def first(self, key: str, alt: str, mark: str) -> None:
        """Show a picture at once: an update of elements, as :meth:`settle` makes one, renders the whole page.

        Args:
            key: of the picture.
            alt: what is to be seen, in words.
            mark: what the picture is of, for the element's ``data-of``.
        """
        attributes = {"src": f"{self._root}/pictures/{key}", "alt": alt, "data-of": mark}
        self.figure.client.run_javascript(f"featlinkShow({self._image.id}, {json.dumps(attributes)})")

    def settle(self, caption: str) -> None:
        """Say what is to be seen in it.

        Args:
            caption: HTML beside the title.
        """
        self._caption.content = caption

    def busy(self, busy: bool) -> None:
        """Show that a newer answer is on its way."""
        self.figure.client.run_javascript(
            f"getHtmlElement({self.figure.id}).classList.toggle('busy', {str(busy).lower()})"
        )


class Planes:
    """A level's planes before and after, which zoom and scroll together.

    Args:
        root: path below which the page is served.
        choose: called with another level; nothing for none.
    """

    def __init__(self, root: str, choose: Callable[[str], None]) -> None:
        self._root = root
        with ui.element("div").classes("row-tight wrap"):
            self._level = ui.toggle({"": "off"}, value="", on_change=lambda e: choose(e.value)).props(
                'dense no-caps unelevated aria-label="Level"'
            )
            self._zoom = ui.toggle({"fit": "fit", "1": "1:1", "4": "4:1"}, value="fit", on_change=self._zoomed)
            self._zoom.props('dense no-caps unelevated aria-label="Zoom"')
        with ui.element("div").classes("planes zoom-fit") as self._views:
            self._images = [self._view(title, name) for title, name in (("Sent", "sent"), ("Received", "received"))]
        self.show(None, "")

    def offer(self, levels: tuple[str, ...], chosen: str) -> None:
        """Let choose among these levels."""
        self._level.set_options(
            {"": "off", **{name: name for name in levels}}, value=chosen if chosen in levels else ""
        )

    def show(self, received: Received | None, level: str) -> None:
        """Show the planes of an answer, or nothing."""
        planes = None if received is None else received.planes
        self._views.set_visibility(planes is not None)
        self._zoom.set_visibility(planes is not None)
        if planes is not None:
            for image, key in zip(self._images, planes, strict=True):
                image.props["src"] = f"{self._root}/pictures/{key}"
                image.props["data-level"] = level
                image.update()

    def _view(self, title: str, name: str) -> ui.element:
        with ui.element("figure"):
            ui.html(f"<b>{title}</b>", tag="figcaption", sanitize=False)
            with ui.element("div").classes("plane").props('data-together="planes" tabindex="0"'):
                return ui.element("img").props(f'alt="The level\'s channels as tiles of one plane, {name}"')

    def _zoomed(self) -> None:
        self._views.classes(remove="zoom-fit zoom-1 zoom-4", add=f"zoom-{self._zoom.value}")


class Picker:
    """Where the picture comes from: thumbnails, a file button, a camera button.

    Args:
        chosen: the picture now.
        root: path below which the page is served.
        choose: called with another: a scene's name or an uploaded picture's key.
        refuse: called with why a picture was refused.
    """

    def __init__(self, chosen: str, root: str, choose: Callable[[str], None], refuse: Callable[[str], None]) -> None:
        names = scenes()
        self._chosen = chosen
        self._root = root
        # One element for all of them: each of NiceGUI's own takes its part of every update.
        self._strip = ui.html("", sanitize=False, tag="fieldset").classes("scenes").props('aria-label="Bundled scenes"')
        first = names.index(FIRST) if chosen == FIRST else 0
        few = names[first : first + _FEW_SCENES]
        self._fill(few if chosen in few or chosen not in names else names)
        with ui.element("div").classes("row-tight"):
            ui.html(
                "<label class='pick'><input type='file' class='picture' "
                "accept='image/jpeg,image/png,image/webp,image/bmp'>"
                "<span>Choose or drop a picture…</span></label>",
                sanitize=False,
            ).classes("grow")
            ui.button(icon="photo_camera", on_click=self._camera).props('outline dense aria-label="Camera"')
        ui.on("picture", lambda e: choose(str(e.args)))
        ui.on("picture_refused", lambda e: refuse(str(e.args)))
        ui.on("more_scenes", lambda: self._fill(names))

    def mark(self, chosen: str) -> None:
        """Show which scene is chosen, if one is."""
        if chosen != self._chosen:
            self._chosen = chosen
            ui.run_javascript(
                "for (const one of document.querySelectorAll('.scenes input')) "
                f"one.checked = one.value === {json.dumps(chosen)}"
            )

    def _fill(self, names: list[str]) -> None:
        parts = [
            f"<label class='scene'><input type='radio' name='scene' value='{name}' "
            f"aria-label='Scene {int(name.split('.')[0])}'{' checked' if name == self._chosen else ''}>"
            f"<img src='{self._root}/scenes/{name}?small=true' alt='' loading='lazy' width='64' height='64'></label>"
            for name in names
        ]
        if rest := len(scenes()) - len(names):
            parts.append(f"<button type='button' class='more' aria-label='Show all scenes'>+{rest}</button>")
        self._strip.content = "".join(parts)

    def _camera(self) -> None:
        with ui.dialog() as dialog, ui.card().classes("camera"):
            ui.element("video").props('id="camera" playsinline muted aria-label="Camera"')
            with ui.element("div").classes("row-tight"):
                shoot = ui.button("Take the picture", icon="photo_camera").props("no-caps unelevated")
                ui.button("Close", on_click=dialog.close).props("no-caps flat")
        shoot.on("click", js_handler="() => featlinkShoot('camera')")
        shoot.on_click(dialog.close)
        dialog.on("show", js_handler="() => featlinkCamera('camera')")
        dialog.on("hide", js_handler="() => featlinkCameraOff()")
        dialog.on("hide", dialog.delete)
        dialog.open()


class Copying:
    """A card with lines that ask for the same outside the page, to be copied by one click.

    Args:
        settings: say where the services are.
        address: of the page.
    """

    def __init__(self, settings: PageSettings, address: str) -> None:
        self._settings = settings
        self._address = address
        self._texts: dict[str, str] = {}
        title = "The same as curl, command line, Python"
        self._card = ui.expansion(title, icon="terminal", on_value_change=self._fill).props("dense")
        with self._card.classes("card copy"):
            self._labels = {
                name: self._block(name) for name in ("Link to this view", "curl", "featlink infer", "Python")
            }

    def show(self, state: State) -> None:
        """The lines of a setting."""
        where = "scenes" if scene_path(state.picture) is not None else "pictures"
        picture = f"{self._address}/{where}/{state.picture}"
        host = self._address.split("/")[2].rpartition(":")[0] or self._address.split("/")[2]
        edge, cloud = self._settings.public_urls(host)
        self._texts = {
            "Link to this view": f"{self._address}/?{state.query()}",
            "curl": states.curl(state, edge, picture),
            "featlink infer": states.command(state, edge, picture),
            "Python": states.python(state, edge, cloud, picture),
        }
        self._fill()

    def _fill(self) -> None:
        """Only where they can be seen: each update costs the browser time."""
        if self._card.value:
            for name, label in self._labels.items():
                label.text = self._texts[name]

    def _block(self, name: str) -> ui.label:
        with ui.element("div").classes("lines"):
            with ui.element("div").classes("lines-head"):
                ui.html(f"<b>{name}</b>", tag="span", sanitize=False)
                ui.button("Copy", icon="content_copy", on_click=partial(self._copy, name)).props(
                    f'flat dense no-caps size=sm aria-label="Copy {name}"'
                )
            return ui.label("").classes("mono")

    def _copy(self, name: str) -> None:
        ui.clipboard.write(self._texts.get(name, ""))
        ui.notify("Copied", position="bottom", timeout=1000)


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
