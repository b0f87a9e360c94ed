"""The live view: a clip or the browser's camera, sent as features and as pixels at once; strips of bits and latency.

Each side is a stream of its own through the services. A thread for each takes its answers and draws them; the event
loop only shows what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from fastapi import FastAPI, Request, Response
from nicegui import ui

from featlink import views
from featlink.dataset import find_clip, ground_truth, open_dataset
from featlink.drawn_clips import NAME as CLIPS
from featlink.errors import CommandError
from featlink.page import layout
from featlink.page.context import Context, read_body
from featlink.page.pictures import decoded, jpeg
from featlink.page.playground import Overlay
from featlink.report.table import number
from featlink.shared.conditions.language import Domain, parse
from featlink.shared.errors import FeatlinkError
from featlink.shared.evaluation.coco import clips
from featlink.shared.features import Image
from featlink.shared.models.overlay import paint
from featlink.stream_records import Counted, FrameRecord, record
from featlink.streaming import Answer, Camera, Params, Pipeline

CAMERA = "camera"
_UNDER_WAY = 2
_SHOWN = 60
"""Frames that the strips show."""
_SCORE = 0.5
_EVERY_S = 0.5
_SILENT_S = 30.0
"""A camera that sends nothing for so long has gone."""
_STARTS: dict[Domain, str] = {"feature": "seq.features.bottleneck.step7", "image": "seq.pixels.live.qp32"}
_OTHERS: dict[Domain, str] = {"feature": "feature: quantize(bits=4)", "image": "image: jpeg(quality=60)"}
"""Where a deployment has no named conditions of sequences, or nothing fitted to its weights."""
_OFFERED: dict[Domain, str] = {"feature": "seq.features.", "image": "seq.pixels."}

Pictures = Iterator[tuple[bytes, int | None]]


class Feed:
    """Pictures of a visitor's camera, which the browser sends one by one."""

    def __init__(self) -> None:
        self._queues: list[queue.Queue[bytes]] = []
        self.stopped = False

    def put(self, picture: bytes) -> None:
        """Give a picture to all who read; who is behind loses the older ones."""
        for one in self._queues:
            with contextlib.suppress(queue.Empty):
                while one.full():
                    one.get_nowait()
            one.put(picture)

    def pictures(self) -> Pictures:
        """Pictures from now on, until the feed stops."""
        mine: queue.Queue[bytes] = queue.Queue(2)
        self._queues.append(mine)

        def each() -> Pictures:
            heard = time.monotonic()
            while not self.stopped and time.monotonic() - heard < _SILENT_S:
                with contextlib.suppress(queue.Empty):
                    yield mine.get(timeout=0.2), None
                    heard = time.monotonic()

        return each()


def add_page(app: FastAPI, context: Context) -> None:
    """Put the live view at ``/live``."""
    feeds: dict[str, Feed] = {}
    most = context.settings.max_picture_mb << 20

    @app.post("/live/{key}")
    async def put_frame(key: str, request: Request) -> Response:
        """The body is a picture of the camera of the visitor who has this key."""
        if (feed := feeds.get(key)) is None:
            return Response(status_code=404)
        if (data := await read_body(request, most)) is None:
            return Response(status_code=413)
        feed.put(data)
        return Response(status_code=204)

    @ui.page("/live", title="Featlink live")
    def live(request: Request) -> None:
        with layout.frame("/live", request):
            view = Live(context, layout.root_path(request), feeds)
            view.build()
        ui.context.client.on_disconnect(view.leave)


@dataclass
class _Playing:
    """A side that plays."""

    camera: Camera
    pipeline: Pipeline
    counted: Counted
    thread: threading.Thread


class Live:
    """One visitor's live view.

    Args:
        context: shared with others.
        root: path below which the page is served.
        feeds: of cameras, by key.
    """

    def __init__(self, context: Context, root: str, feeds: dict[str, Feed]) -> None:
        self._context, self._root, self._feeds = context, root, feeds
        self._key = uuid.uuid4().hex
        self._playing: dict[Domain, _Playing] = {}
        self._shown: dict[Domain, deque[FrameRecord]] = {}
        self._wrong = ""

    def build(self) -> None:
        """Make the elements; what the services offer follows when they answer."""
        ui.html("<h1>A stream, sent in two ways</h1>", sanitize=False)
        self._banner = ui.html("", sanitize=False).classes("banner error").props('role="status" aria-live="polite"')
        self._banner.set_visibility(False)
        with ui.element("section").classes("card live-controls").props('aria-label="What is sent"'):
            self._source = ui.select({"": "loading the clips …"}, value="", label="Source").props("outlined dense")
            self._fps = ui.select([1, 2, 5, 10, 15], value=2, label="pictures a second").props("outlined dense")
            self._rate = ui.select(
                {0: "no limit", 5: "5 Mbit/s", 1: "1 Mbit/s", 0.5: "500 kbit/s", 0.1: "100 kbit/s"},
                value=0,
                label="Link",
            ).props("outlined dense")
            self._button = ui.button("Play", icon="play_arrow", on_click=self._turn).props("no-caps unelevated")
            self._button.set_enabled(False)
        self._video = ui.element("video").props(f'id="live-{self._key}" playsinline muted aria-label="Camera"')
        self._video.set_visibility(False)
        self._conditions: dict[Domain, ui.select] = {}
        self._overlays: dict[Domain, Overlay] = {}
        with ui.element("div").classes("sides"):
            for domain, name in (("feature", "Features"), ("image", "Pixels")):
                self._side(domain, name)  # type: ignore[arg-type]
        self._strips = ui.html("", sanitize=False).classes("card strips").props('aria-label="Bits and latency"')
        self._timer = ui.timer(_EVERY_S, self._update, active=False)
        ui.timer(0, self._begin, once=True)

    def _side(self, domain: Domain, name: str) -> None:
        with ui.element("section").classes(f"side {domain}").props(f'data-side="{domain}" aria-label="{name}"'):
            self._conditions[domain] = ui.select(
                [_OTHERS[domain]], value=_OTHERS[domain], label=name, with_input=True, new_value_mode="add-unique"
            ).props("outlined dense")
            self._overlays[domain] = Overlay(name, "a" if domain == "feature" else "b", self._root)

    async def _begin(self) -> None:
        try:
            catalogue = await self._context.catalogue()
        except CommandError as error:
            self._tell(str(error))
        else:
            for domain, select in self._conditions.items():
                named = {
                    text: name
                    for name, text in catalogue.named.items()
                    if name.startswith(_OFFERED[domain]) and "random_access" not in text
                }
                first = catalogue.named.get(_STARTS[domain], _OTHERS[domain])
                select.set_options({**named, _OTHERS[domain]: _OTHERS[domain]}, value=first)
        try:
            names = await asyncio.to_thread(clip_names)
        except FeatlinkError as error:
            names = []
            self._tell(str(error))
        self._source.set_options(
            {**{name: f"clip {name}" for name in names}, CAMERA: "this device's camera"}, value=[*names, CAMERA][0]
        )
        self._button.set_enabled(True)

    async def _turn(self) -> None:
        if self._playing:
            self.stop()
            self._wait()
            return
        self._tell("")
        link: dict[str, object] = {"wait": True} | ({"rate_mbps": self._rate.value} if self._rate.value else {})
        source, fps = str(self._source.value), float(self._fps.value)
        feed = Feed()
        try:
            conditions = {domain: parse(str(select.value), domain) for domain, select in self._conditions.items()}
            pictures = {
                domain: feed.pictures() if source == CAMERA else await asyncio.to_thread(clip_pictures, source, fps)
                for domain in conditions
            }
        except FeatlinkError as error:
            self._tell(str(error))
            return
        self._feeds[self._key] = feed
        for domain, condition in conditions.items():
            self._play(domain, str(condition), pictures[domain], link, asyncio.get_running_loop())
        if source == CAMERA:
            self._video.set_visibility(True)
            ui.run_javascript(f"featlinkLive('live-{self._key}', '{self._key}', {1000 / fps:.0f})")
        self._button.text, self._button.icon = "Stop", "stop"
        self._timer.activate()

    def _play(
        self,
        domain: Domain,
        condition: str,
        pictures: Pictures,
        link: dict[str, object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        wanted = "image" if domain == "image" else None
        given: Params = {
            "condition": condition,
            "domain": domain,
            "fidelity": False,
            "link": json.dumps(link),
            "received": wanted,
        }
        camera = Camera(pictures, "newest")
        pipeline = Pipeline(self._context.client, given, _UNDER_WAY)
        counted = Counted(camera, pipeline)
        self._shown[domain] = deque(maxlen=_SHOWN)
        thread = threading.Thread(target=self._watch, args=(domain, loop), name=f"live {domain}", daemon=True)
        self._playing[domain] = _Playing(camera, pipeline, counted, thread)
        camera.__enter__()
        pipeline.feed(camera)
        thread.start()

    def _watch(self, domain: Domain, loop: asyncio.AbstractEventLoop) -> None:
        """Take a side's answers and draw them, in a thread of its own."""
        playing = self._playing[domain]
        try:
            with playing.pipeline:
                for answer in playing.pipeline.answers():
                    one = record(answer, playing.counted.begun_s)
                    playing.counted.add(one)
                    self._shown[domain].append(one)
                    if answer.result is not None:
                        key = self._context.drawn.put(jpeg(drawn(answer), 80))
                        said = f"frame {answer.number}, {len(answer.result.detections)} detections"
                        loop.call_soon_threadsafe(self._overlays[domain].first, key, said, str(answer.number))
        except FeatlinkError as error:
            self._wrong = str(error)
        finally:
            playing.camera.stop()

    def _update(self) -> None:
        """Show figures and strips as they are now; the end, if all sides have ended."""
        for domain, playing in self._playing.items():
            figures = playing.counted.recent()
            words = (
                f"{number(figures.out_fps, 1)} of {number(figures.in_fps, 1)} pictures/s",
                f"{number(figures.kbps, 0)} kbit/s",
                f"{number(figures.median_ms, 0)} ms",
                f"{figures.dropped} dropped",
            )
            self._overlays[domain].settle("".join(f'<span class="chip found">{one}</span>' for one in words))
        self._strips.content = strips(self._shown)
        if self._wrong:
            self._tell(self._wrong)
        if self._playing and not any(one.thread.is_alive() for one in self._playing.values()):
            self._wait()

    def _wait(self) -> None:
        """Wait for the next play."""
        self.stop()
        self._playing.clear()
        self._timer.deactivate()
        self._button.text, self._button.icon = "Play", "play_arrow"
        self._video.set_visibility(False)
        ui.run_javascript("featlinkCameraOff()")

    def stop(self) -> None:
        """Stop both sides; what is under way is not shown any more."""
        if (feed := self._feeds.get(self._key)) is not None:  # stays, for pictures that the browser has yet to send
            feed.stopped = True
        for playing in self._playing.values():
            playing.camera.stop()
            playing.pipeline.finish()

    def leave(self) -> None:
        """Stop both sides for good."""
        self.stop()
        self._feeds.pop(self._key, None)

    def _tell(self, what: str) -> None:
        self._wrong = ""
        self._banner.content = escape(what)
        self._banner.set_visibility(bool(what))


def clip_names() -> list[str]:
    """Names of the bundled clips, which are drawn at first use."""
    return [one.video.name for one in clips(ground_truth(open_dataset(CLIPS))[0]) if one.video is not None]


def clip_pictures(name: str, fps: float) -> Pictures:
    """A bundled clip's picture files, over and over."""
    data = open_dataset(CLIPS)
    files = [data.images[image.id].read_bytes() for image in find_clip(ground_truth(data)[0], name).images]

    def each() -> Pictures:
        begun = time.monotonic()
        for index, file in enumerate(itertools.cycle(files)):
            time.sleep(max(0.0, begun + index / fps - time.monotonic()))
            yield file, None

    return each()


def drawn(answer: Answer) -> Image:
    """What was detected, on the picture as it arrived; of features, on the one that was sent."""
    if answer.result is None:
        raise ValueError("a refused frame has no picture")
    pixels = decoded(answer.shot.picture)
    arrived = views.received_picture(answer.result, pixels.shape[:2])
    sure = [one for one in answer.result.detections if one["score"] >= _SCORE]
    return paint(pixels if arrived is None else arrived, sure, answer.result.categories)


def strips(shown: dict[Domain, deque[FrameRecord]]) -> str:
    """Two strips as SVG: kB by frame, and latency by frame, of both sides; key frames have a tick."""
    rows = {domain: [one for one in list(frames) if one.bits is not None] for domain, frames in shown.items()}
    sizes = {domain: [((one.bits or 0) / 8000, one.key) for one in frames] for domain, frames in rows.items()}
    latencies = {domain: [(one.latency_ms, one.key) for one in frames] for domain, frames in rows.items()}
    return _strip("size of a frame", "kB", sizes) + _strip("from the camera to the answer", "ms", latencies)


def _strip(title: str, unit: str, series: dict[Domain, list[tuple[float, bool]]]) -> str:
    top = max((value for points in series.values() for value, _ in points), default=0.0) or 1.0
    drawings = []
    for domain, points in series.items():
        places = [
            (10 * (_SHOWN - len(points) + n) + 5, 96 - 90 * value / top, key) for n, (value, key) in enumerate(points)
        ]
        line = " ".join(f"{x},{y:.1f}" for x, y, _ in places)
        drawings.append(f'<polyline class="{domain}" points="{line}"/>')
        drawings += [f'<path class="{domain}" d="M{x},{y - 4:.1f}v8"/>' for x, y, key in places if key]
    return (
        f"<figure><figcaption>{title} <span>up to {number(top, 1 if top < 100 else 0)} {unit}</span></figcaption>"
        f'<svg viewBox="0 0 {10 * _SHOWN} 100" preserveAspectRatio="none" role="img" aria-label="{title}">'
        f"{''.join(drawings)}</svg></figure>"
    )
