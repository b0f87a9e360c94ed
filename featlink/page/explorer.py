"""The explorer: curves of a finished sweep, the pictures behind a point, and what to send over which link."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from nicegui import events, ui
from starlette.requests import Request

from featlink.dataset import open_dataset
from featlink.deciding.decision import decide, to_dict
from featlink.deciding.query import make_query
from featlink.deciding.question import DEFAULT_KEEP
from featlink.deciding.streams import decide_stream, stream_to_dict
from featlink.errors import CommandError
from featlink.page import layout
from featlink.page.context import Context, Latest
from featlink.page.forms import Control, Value, field
from featlink.page.pictures import PictureStore, decoded, jpeg
from featlink.page.results import SENT_AS, chips, waterfall
from featlink.report.curves import Figure, curve_figures
from featlink.report.sweep import DOMAINS, Sweep, about, condition_of, label, open_sweep
from featlink.report.table import percent
from featlink.results import DATABASE, MANIFEST, RESULTS, Row
from featlink.shared.errors import FeatlinkError, NotFoundError
from featlink.shared.models.overlay import paint
from featlink.shared.store import open_finished
from featlink.starter.bundle import SCENES
from featlink.views import Matching, match, received_overlay

EXAMPLE = "bundled example"
"""The name of the sweep that comes with Featlink, of the bundled scenes."""

_EXAMPLE_FILE = Path(__file__).parent / "assets" / "example.zip"
_DEPTH = 3

_LIGHT = {"feature": "#0069a6", "image": "#b54708", "muted": "#56616c", "ink": "#1a2026", "line": "#d8dde3"}
_DARK = {"feature": "#56b4e9", "image": "#f0a13c", "muted": "#9aa6b2", "ink": "#e6eaee", "line": "#2f3740"}

_SPEED = "how many times as fast as the machine of the sweep"
QUESTION = {
    "link (Mbit/s)": Control("rate", "the link's rate", "number", 20.0, low=0.1, high=10_000, logarithmic=True),
    "round trip (ms)": Control("rtt", "half of it is on the way to the cloud", "number", 20.0, low=0, high=400),
    "edge speed ×": Control("edge_speed", _SPEED, "number", 1.0, low=0.1, high=10, logarithmic=True),
    "cloud speed ×": Control("cloud_speed", _SPEED, "number", 1.0, low=0.1, high=100, logarithmic=True),
    "keep of AP (%)": Control(
        "keep", "share of the domain's clean AP that must be kept", "number", 100 * DEFAULT_KEEP, low=10, high=100
    ),
}
"""Arguments of ``featlink decide`` by the labels of their sliders."""
STREAM_QUESTION = {
    "frames a second": Control("fps", "that the camera takes", "number", 10.0, low=1, high=60, logarithmic=True),
    **QUESTION,
    "link (Mbit/s)": Control("rate", "the link's rate", "number", 0.5, low=0.01, high=100, logarithmic=True),
}
"""The same of a sweep of clips."""


def sweep_names(root: Path) -> list[str]:
    """Folders under ``root`` that hold a finished sweep, relative to it, the newest first; then the bundled example."""
    sweeps = []
    for depth in range(1, _DEPTH + 1):
        for results in root.glob("*/" * depth + RESULTS):
            if (results.parent / MANIFEST).is_file():
                sweeps.append((-results.stat().st_mtime, str(results.parent.relative_to(root))))
    return [name for _, name in sorted(sweeps)] + [EXAMPLE]


@functools.cache
def _example_folder() -> Path:
    """The bundled sweep, unpacked: SQLite wants to write beside its file, and the installation may be read-only."""
    folder = Path(tempfile.mkdtemp(prefix="featlink-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with zipfile.ZipFile(_EXAMPLE_FILE) as archive:
        archive.extractall(folder)
    return folder


def load_sweep(root: Path, name: str) -> Sweep:
    """A sweep of :func:`sweep_names`.

    Raises:
        CommandError: there is no such, or it cannot be read.
    """
    if name not in sweep_names(root):
        raise CommandError(f"there is no finished sweep {name!r} in {root}")
    return open_sweep(_example_folder() if name == EXAMPLE else root / name)


def example_note(sweep: Sweep, root: Path) -> str:
    """What the bundled example is and what its times are worth, as HTML.

    Args:
        sweep: the example.
        root: where sweeps of one's own are looked for.
    """
    return (
        f"<b>An example</b>: {about(sweep).images} bundled scenes, with the bundled weights. Its times, and so what it "
        "says to send, are those of a busy machine with one thread per inference: they are no measure of yours. A "
        f"sweep of your own appears here: <code>featlink bench --out {escape(str(root / 'first'))} --limit 8</code>"
    )


def data_folder(sweep: Sweep) -> Path:
    """Where the pictures of a sweep are.

    Raises:
        CommandError: not on this machine.
    """
    told = about(sweep)
    if told.folder is not None and told.folder.exists():
        return told.folder
    if told.dataset == "starter":  # the bundled scenes, which every installation has in a place of its own
        return SCENES
    raise CommandError(f"the sweep's data set is not here ({told.folder or 'the manifest does not say where it is'})")


@dataclass(frozen=True)
class Example:
    """One picture of a sweep under one condition.

    Attributes:
        clean, received: keys of the pictures with their detections.
        matching: of both.
        picture: key of the file itself.
    """

    clean: str
    received: str
    matching: Matching
    picture: str


def example(sweep: Sweep, row: Row, image_id: int, path: Path, drawn: PictureStore, uploads: PictureStore) -> Example:
    """Draw what a condition left of one picture's detections, beside the clean ones.

    Args:
        sweep: of the row.
        row: the condition; its first seed is shown.
        image_id: the picture.
        path: its file.
        drawn: takes the drawings.
        uploads: takes the file, for the playground.

    Raises:
        CommandError: the detections are not there.
    """
    clean_row = sweep.clean(row.domain)
    if clean_row is None:
        raise CommandError(f"the sweep has no clean run of the {row.domain} domain")
    with contextlib.closing(open_finished(sweep.folder / DATABASE)) as store:
        try:
            clean, received = (store.result(one.seeds[0].run, image_id).detections for one in (clean_row, row))
        except NotFoundError as error:
            raise CommandError(str(error)) from None
    data = path.read_bytes()
    pixels, labels = decoded(data), open_dataset(data_folder(sweep), sweep.truth, about(sweep).pictures).categories()
    matching = match(clean, received)
    return Example(
        drawn.put(jpeg(paint(pixels, clean, labels))),
        drawn.put(jpeg(received_overlay(pixels, matching, labels))),
        matching,
        uploads.put(data),
    )


def decision(sweep: Sweep, question: Mapping[str, Any]) -> dict[str, Any]:
    """What ``featlink decide`` answers, without the rates at which it changes, which take long to find.

    Args:
        sweep: a finished sweep.
        question: arguments of ``featlink decide``; with ``fps``, it is about a stream.

    Raises:
        CommandError: the sweep has no samples or no times, or something asked for is out of its range.
    """
    query = make_query(**question)
    if query.fps is not None:
        return stream_to_dict(decide_stream(sweep, query))
    return to_dict(decide(sweep, query, crossings=False))


def leading(answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The best option of each domain, the best first."""
    best: dict[str, dict[str, Any]] = {}
    for option in answer["options"]:
        best.setdefault(option["domain"], option)
    return best


def headline(answer: Mapping[str, Any]) -> str:
    """The call and its margin, in a few words."""
    if answer["call"] not in DOMAINS:
        return "Nothing keeps so much" if answer["call"] == "nothing" else "Too close to call"
    best, *others = leading(answer).values()
    text = f"Send {SENT_AS[best['domain']]}"
    if "fps" in answer:
        return f"{text}: {best['kbps']:,.0f} kbit/s, 95 % of the answers within {best['latency_ms']['p95']:,.0f} ms"
    if not others or not others[0]["good_enough"]:
        return text
    saved = others[0]["ms"] - best["ms"]
    return f"{text}: {saved:,.0f} ms ({100 * saved / others[0]['ms']:.0f} %) sooner than {SENT_AS[others[0]['domain']]}"


def stream_facts(option: Mapping[str, Any]) -> str:
    """What a stream would be, in words: its rate, how late answers are, and how busy the busiest place is."""
    latency, (place, load) = option["latency_ms"], max(option["load"].items(), key=lambda one: one[1] or 0)
    late = "" if latency is None else f", latency {latency['median']:,.0f} ms (95 %: {latency['p95']:,.0f})"
    busy = f"the {place} is {100 * load:.0f} % busy"
    grows = "" if option["stable"] else f", the backlog grows by {option['backlog_growth']:.2g} s each second"
    return f"{option['kbps']:,.0f} kbit/s, AP {100 * option['ap']:.1f} %{late}; {busy}{grows}"


def plotly(figure: Figure, dark: bool) -> dict[str, Any]:
    """A figure as Plotly.js takes it, in the page's colours.

    Args:
        figure: of a report.
        dark: whether the page is.

    Example:
        >>> plotly(Figure("id", "", "", [{"line": {"color": "var(--feature)"}}], {}), dark=False)["data"]
        [{'line': {'color': '#0069a6'}}]
    """
    colours = _DARK if dark else _LIGHT
    line = {"gridcolor": colours["line"], "zerolinecolor": colours["line"], "linecolor": colours["muted"]}
    plot_layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": colours["ink"], "family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 56, "r": 12, "t": 8, "b": 48},
        "height": figure.height - 60,
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": -0.22},
        **figure.layout,
    }
    for name in ("xaxis", "yaxis"):
        plot_layout[name] = {**line, **plot_layout.get(name, {})}
    coloured: dict[str, Any] = _coloured({"data": list(figure.traces), "layout": plot_layout}, colours)
    return {**coloured, "config": {"displaylogo": False, "responsive": True, "displayModeBar": False}}


def _coloured(value: Any, colours: dict[str, str]) -> Any:
    """The theme's variables replaced, wherever they stand."""
    if isinstance(value, dict):
        return {key: _coloured(item, colours) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_coloured(item, colours) for item in value]
    if isinstance(value, str) and value.startswith("var(--"):
        return colours.get(value.removeprefix("var(--").removesuffix(")"), colours["muted"])
    return value


def add_page(context: Context) -> None:
    """Put the explorer at ``/explore``."""

    @ui.page("/explore", title="Featlink explorer")
    def explore(request: Request) -> None:
        with layout.frame("/explore", request):
            Explorer(context, layout.root_path(request), dict(request.query_params)).build()


class Explorer:
    """One visitor's view of finished sweeps.

    Args:
        context: shared with others.
        root: path below which the page is served.
        query: of the address: ``sweep``, ``row``, ``image``.
    """

    def __init__(self, context: Context, root: str, query: Mapping[str, str]) -> None:
        self._context = context
        self._root = root
        self._folder = context.settings.sweeps
        self._query = dict(query)
        self._sweep: Sweep | None = None
        self._images: dict[int, Path] = {}

    def build(self) -> None:
        """Make the elements and load the sweep that the address names, or the newest."""
        ui.html("<h1>Rate and accuracy of a finished sweep</h1>", sanitize=False)
        names = sweep_names(self._folder)
        wanted = self._query.get("sweep")
        chosen = wanted if wanted in names else names[0]
        with ui.element("div").classes("sweep-line"):
            self._select = (
                ui.select(names, value=chosen, label="Sweep", on_change=lambda: self._open())
                .props("dense outlined options-dense")
                .classes("sweep-select")
            )
            self._note = ui.html("", tag="p", sanitize=False).classes("quiet").props('role="note"')
        self._message = ui.html("", sanitize=False).props('role="status"')
        with ui.element("div").classes("explore"):
            self._plots = ui.element("section").classes("plots").props('aria-label="Curves"')
            with ui.element("div").classes("aside"):
                self._behind = ui.element("section").classes("card").props('aria-label="The pictures behind a point"')
                self._decide = ui.element("section").classes("card").props('aria-label="Which should I send?"')
        if wanted and wanted not in names:
            self._fail(f"There is no finished sweep {wanted!r} here.")
        ui.timer(0, self._open, once=True)

    async def _open(self) -> None:
        name = str(self._select.value)
        try:
            self._sweep = await asyncio.to_thread(load_sweep, self._folder, name)
            figures = await asyncio.to_thread(curve_figures, self._sweep)
        except FeatlinkError as error:
            self._fail(str(error))
            return
        self._note.content = example_note(self._sweep, self._folder) if name == EXAMPLE else ""
        try:
            folder = data_folder(self._sweep)
            where = (folder, self._sweep.truth, about(self._sweep).pictures)
            self._images = dict((await asyncio.to_thread(open_dataset, *where)).images)
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
            DecisionPanel(self._sweep).build()
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
            plot = ui.plotly(plotly(figure, dark)).classes("canvas")
            plot.on("plotly_click", self._clicked)

    async def _clicked(self, event: events.GenericEventArguments) -> None:
        points = (event.args or {}).get("points") or []
        row = points[0].get("customdata") if points else None
        if isinstance(row, str):
            await self._point(row)

    async def _point(self, row_id: str, image_id: int | None = None) -> None:
        """Show a row of the sweep, and one picture under its condition."""
        sweep = self._sweep
        row = None if sweep is None else sweep.by_id.get(row_id)
        if sweep is None or row is None:
            return
        if image_id is None:
            given = self._query.get("image", "")
            wanted = int(given) if given.isdecimal() else None
            image_id = wanted if wanted in self._images else next(iter(self._images), None)
        self._query = {"sweep": str(self._select.value), "row": row_id}
        if image_id is not None:
            self._query["image"] = str(image_id)
        ui.navigate.history.replace(f"{self._root}/explore?{urlencode(self._query)}")
        message, shown = "", None
        if image_id is not None:
            stores = (self._context.drawn, self._context.uploads)
            try:
                shown = await asyncio.to_thread(example, sweep, row, image_id, self._images[image_id], *stores)
            except (FeatlinkError, OSError) as error:
                message = str(error)
        self._behind.clear()
        with self._behind:
            ui.html(
                f"<h2><span class='domain {row.domain}'>{SENT_AS[row.domain].capitalize()}</span>: "
                f"{escape(label(row))}</h2><p>AP {percent(sweep.ap(row))} %, keeps {percent(sweep.retention(row))} % "
                f"at {row.bits_per_image / 8000:,.1f} kB a picture</p>",
                sanitize=False,
            ).props(f'data-row="{escape(row.id)}"')
            if message:
                ui.html(f"<p class='quiet'>No pictures: {escape(message)}</p>", sanitize=False)
            if shown is not None and image_id is not None:
                self._pictures(row, image_id, shown)

    def _pictures(self, row: Row, image_id: int, shown: Example) -> None:
        ui.select(
            {one: f"{one} ({path.name})" for one, path in self._images.items()},
            value=image_id,
            label="Picture",
            with_input=True,
            on_change=lambda e: self._point(row.id, e.value),
        ).props("dense outlined options-dense")
        with ui.element("div").classes("behind"):
            for title, key in (("Clean", shown.clean), ("Received", shown.received)):
                with ui.element("figure"):
                    ui.html(f"<b>{title}</b>", tag="figcaption", sanitize=False)
                    ui.element("img").props(f'src="{self._root}/pictures/{key}" alt="{title} detections"')
        query = urlencode({"picture": shown.picture, "a": str(condition_of(row))}, quote_via=quote)
        ui.html(
            f"<p class='legend'>{chips(shown.matching)} "
            f"<a href='{escape(self._root)}/?{escape(query)}'>Open in the playground</a></p>",
            sanitize=False,
        )

    def _fail(self, why: str) -> None:
        self._message.content = f"<p class='banner error'>{escape(why)}</p>"


class DecisionPanel:
    """ "Which should I send?", answered for one sweep, and again whenever a slider has moved.

    Args:
        sweep: a finished sweep.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._controls = STREAM_QUESTION if sweep.sequences else QUESTION
        self._question: dict[str, Any] = {control.name: control.start for control in self._controls.values()}
        self._latest = Latest(self._show)

    def build(self) -> None:
        """Make the elements and ask for the first answer."""
        ui.html("<h2>Which should I send?</h2>", sanitize=False)
        self._answer = ui.html("", sanitize=False).props('role="status"').classes("answer")
        for words, control in self._controls.items():
            field(replace(control, name=words), control.start, partial(self._set, control.name))
        self._times = ui.html("", sanitize=False).classes("times")
        self._latest.ask(dict(self._question))

    def _set(self, name: str, value: Value) -> None:
        self._question[name] = value
        self._latest.ask(dict(self._question))

    async def _show(self, question: Mapping[str, Any]) -> None:
        try:
            answer = await asyncio.to_thread(decision, self._sweep, question)
        except FeatlinkError as error:
            self._answer.content, self._times.content = f"<p>{escape(str(error))}</p>", ""
            return
        overlapped = (
            "<p>Stages of this sweep overlapped: its times include waiting.</p>" if answer["overlapped"] else ""
        )
        self._answer.content = f"<p><b>{headline(answer)}</b></p><p>{escape(answer['sentence'])}</p>{overlapped}"
        best = {self._title(one): one for one in leading(answer).values()}
        if "fps" in answer:
            self._times.content = "".join(f"<p>{escape(title)}: {stream_facts(one)}</p>" for title, one in best.items())
        else:
            self._times.content = waterfall({title: _places(one) for title, one in best.items()})

    def _title(self, option: Mapping[str, Any]) -> str:
        name = f"{SENT_AS[option['domain']].capitalize()}, {label(self._sweep.by_id[option['id']])}"
        return name if option["good_enough"] else f"{name}, which keeps too little"


def _places(option: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """An option's time by place, as :func:`featlink.page.results.waterfall` takes it."""
    return [
        ("edge", "computing", option["edge_ms"]),
        ("link", "transfer", option["link_ms"]),
        ("link", "between services", option["hops_ms"]),
        ("cloud", "computing", option["cloud_ms"]),
    ]
