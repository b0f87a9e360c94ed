"""The rate–accuracy explorer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from html import escape
from pathlib import Path
from urllib.parse import quote, urlencode

from nicegui import events, ui
from starlette.requests import Request

from featlink.page import layout
from featlink.page.context import Context
from featlink.page.explore import sweeps
from featlink.page.explore.decision import Panel
from featlink.page.explore.plots import plotly
from featlink.report.curves import Figure, curve_figures
from featlink.report.sweep import Sweep, condition_of, label
from featlink.report.table import percent
from featlink.shared.errors import FeatlinkError


def add_page(context: Context) -> None:
    """Put the explorer at ``/explore``."""

    @ui.page("/explore", title="Featlink explorer")
    def explore(request: Request) -> None:
        with layout.frame("/explore", request.cookies):
            Explorer(context, dict(request.query_params)).build()


class Explorer:
    """One visitor's view of finished sweeps.

    Args:
        context: shared with others.
        query: of the address: ``sweep``, ``row``, ``image``.
    """

    def __init__(self, context: Context, query: Mapping[str, str]) -> None:
        self._context = context
        self._root = context.settings.sweeps
        self._query = dict(query)
        self._sweep: Sweep | None = None
        self._images: dict[int, Path] = {}

    def build(self) -> None:
        """Make the elements and load the sweep that the address names, or the newest."""
        ui.html("<h1>Rate and accuracy of a finished sweep</h1>", sanitize=False)
        found = sweeps.names(self._root)
        if not found:
            where = escape(str(self._root.resolve()))
            ui.html(
                f"<p class='banner waiting'>There is no finished sweep in <code>{where}</code> yet.</p>"
                "<p>Make one, then reload this page:</p>"
                "<pre class='mono'>featlink bench --out out/first --limit 8</pre>"
                "<p class='quiet'>Start the page with <code>--sweeps FOLDER</code> to look elsewhere.</p>",
                sanitize=False,
            )
            return
        wanted = self._query.get("sweep")
        self._select = (
            ui.select(
                found, value=wanted if wanted in found else found[0], label="Sweep", on_change=lambda: self._open()
            )
            .props("dense outlined options-dense")
            .classes("sweep-select")
        )
        self._told = ui.html("", sanitize=False).props('role="status"')
        with ui.element("div").classes("explore"):
            self._plots = ui.element("section").classes("plots").props('aria-label="Curves"')
            with ui.element("div").classes("side"):
                self._behind = ui.element("section").classes("card").props('aria-label="The pictures behind a point"')
                self._decide = ui.element("section").classes("card").props('aria-label="Which should I send?"')
        if wanted and wanted not in found:
            self._fail(f"There is no finished sweep {wanted!r} here.")
        ui.timer(0, self._open, once=True)

    async def _open(self) -> None:
        name = str(self._select.value)
        try:
            self._sweep = await asyncio.to_thread(sweeps.load, self._root, name)
            figures = await asyncio.to_thread(curve_figures, self._sweep)
        except FeatlinkError as error:
            self._fail(str(error))
            return
        try:
            self._images = await asyncio.to_thread(sweeps.images, self._sweep)
        except FeatlinkError as error:
            self._images = {}
            self._fail(f"No pictures: {error}")
        dark = bool(await ui.run_javascript("Quasar.Dark.isActive", timeout=5))
        self._plots.clear()
        with self._plots:
            for figure in figures:
                self._plot(figure, dark)
            if not figures:
                ui.html(
                    "<p class='quiet'>This sweep has no curve: no distortion in more than one strength.</p>",
                    sanitize=False,
                )
        self._decide.clear()
        with self._decide:
            Panel(self._sweep).build()
        await self._point(self._query.get("row") or self._first())

    def _first(self) -> str:
        rows = [] if self._sweep is None else [row for row in self._sweep.rows if not row.clean] or self._sweep.rows
        return rows[0].id if rows else ""

    def _plot(self, figure: Figure, dark: bool) -> None:
        with ui.element("section").classes("card plot").props(f'data-figure="{figure.id}"'):
            ui.html(
                f"<h2>{escape(figure.title)}</h2><p class='quiet'>{escape(figure.caption)} "
                "<span class='domain feature'>● features</span> <span class='domain image'>● pixels</span></p>",
                sanitize=False,
            )
            shown = ui.plotly(plotly(figure, dark)).classes("canvas")
            shown.on("plotly_click", self._clicked)

    async def _clicked(self, event: events.GenericEventArguments) -> None:
        points = (event.args or {}).get("points") or []
        row = points[0].get("customdata") if points else None
        if isinstance(row, str):
            await self._point(row)

    async def _point(self, row_id: str, image_id: int | None = None) -> None:
        sweep = self._sweep
        row = None if sweep is None else sweep.by_id.get(row_id)
        if sweep is None or row is None:
            return
        if image_id is None:
            given = self._query.get("image", "")
            image_id = (
                int(given) if given.isdecimal() and int(given) in self._images else next(iter(self._images), None)
            )
        self._query = {"sweep": str(self._select.value), "row": row_id} | (
            {} if image_id is None else {"image": str(image_id)}
        )
        ui.navigate.history.replace(f"/explore?{urlencode(self._query)}")
        told, shot = "", None
        if image_id is not None:
            try:
                shot = await asyncio.to_thread(
                    sweeps.shot,
                    sweep,
                    row,
                    image_id,
                    self._images[image_id],
                    self._context.drawn,
                    self._context.uploads,
                )
            except (FeatlinkError, OSError) as error:
                told = str(error)
        self._behind.clear()
        with self._behind:
            ui.html(
                f"<h2><span class='domain {row.domain}'>{'Pixels' if row.domain == 'image' else 'Features'}</span>: "
                f"{escape(label(row))}</h2><p>AP {percent(sweep.ap(row))} %, keeps {percent(sweep.retention(row))} % "
                f"at {row.bits_per_image / 8000:,.1f} kB a picture</p>",
                sanitize=False,
            ).props(f'data-row="{escape(row.id)}"')
            if told:
                ui.html(f"<p class='quiet'>No pictures: {escape(told)}</p>", sanitize=False)
            if shot is not None and image_id is not None:
                ui.select(
                    {one: f"{one} ({path.name})" for one, path in self._images.items()},
                    value=image_id,
                    label="Picture",
                    with_input=True,
                    on_change=lambda e: self._point(row_id, e.value),
                ).props("dense outlined options-dense")
                with ui.element("div").classes("behind"):
                    self._picture("Clean", shot.clean)
                    self._picture("Received", shot.received)
                counts = {
                    "kept": len(shot.matching.kept),
                    "lost": len(shot.matching.lost),
                    "new": len(shot.matching.new),
                }
                chips = "".join(f"<span class='chip {kind}'>{count} {kind}</span>" for kind, count in counts.items())
                condition = str(condition_of(row))
                view = {"picture": shot.picture, "send": row.domain, "condition": condition}
                link = f"/?{urlencode(view, quote_via=quote)}"
                ui.html(
                    f"<p class='legend'>{chips} <a href='{escape(link)}'>Open in the playground</a></p>", sanitize=False
                )

    def _picture(self, title: str, key: str) -> None:
        with ui.element("figure"):
            ui.html(f"<b>{title}</b>", tag="figcaption", sanitize=False)
            ui.element("img").props(f'src="/pictures/{key}" alt="{title} detections"')

    def _fail(self, why: str) -> None:
        self._told.content = f"<p class='banner error'>{escape(why)}</p>"
