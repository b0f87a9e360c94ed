"""The device view: the visitor's own browser is the edge, and nothing but a frame of features leaves it.

The browser loads an exported edge (:mod:`featlink.exporting`) and ONNX Runtime's build for browsers from the page, and
sends its frames to the channel by way of the page, whose policy lets it ask nobody else.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from nicegui import ui

from featlink.errors import CommandError, RefusalError
from featlink.page import layout
from featlink.page.context import Context, read_body
from featlink.shared.frames.wire import Limits
from featlink.shared.result import HEADER, TelemetryError, read_header

_RUNTIME = "node_modules/onnxruntime-web/dist"
_FILES = (
    "edge.json",
    "edge.onnx",
    f"{_RUNTIME}/ort.wasm.min.mjs",
    f"{_RUNTIME}/ort-wasm-simd-threaded.mjs",
    f"{_RUNTIME}/ort-wasm-simd-threaded.wasm",
)
"""What a browser loads of the folder."""

_FORM = """
<div class="row-tight wrap">
  <label class="pick">Take or choose a picture
    <input type="file" id="device-file" accept="image/*" capture="environment"></label>
  <button type="button" id="device-camera">Camera</button>
  <label>Condition <input id="device-condition" placeholder="the export's, else the channel's"></label>
</div>
<p id="device-status" role="status" class="quiet">{told}</p>
<canvas id="device-picture" role="img" aria-label="The picture, with what was found in it"></canvas>
"""


def add_page(app: FastAPI, context: Context) -> None:
    """Put the device view at ``/device``, and below it what the browser loads and where it sends its frames."""
    folder = context.settings.browser_edge
    if folder is not None:
        app.mount("/device/files", StaticFiles(directory=folder, check_dir=False))

    @app.post("/device/frames")
    async def send_frame(request: Request, condition: str = "") -> Response:
        """The body is a frame; the answer is the channel's."""
        if (frame := await read_body(request, Limits().frame_bytes)) is None:
            return JSONResponse({"detail": "The frame is too large."}, 413)
        try:
            times = read_header(request.headers.get(HEADER))
            result = await context.ask(context.client.transmit, frame, times, condition=condition or None)
        except TelemetryError as error:
            return JSONResponse({"detail": str(error)}, error.status)
        except CommandError as error:
            return JSONResponse({"detail": str(error)}, error.status if isinstance(error, RefusalError) else 502)
        return Response(result.model_dump_json(exclude_unset=True), media_type="application/json")

    @ui.page("/device", title="Featlink device")
    def device(request: Request) -> None:
        with layout.frame("/device", request):
            ui.add_body_html(f'<script defer src="{layout.root_path(request)}/assets/device.js"></script>')
            ui.html("<h1>This browser is the edge</h1>", sanitize=False)
            ui.html(_FORM.format(told=escape(_told(folder))), sanitize=False).classes("card device")


def _told(folder: Path | None) -> str:
    """What a visitor is to know before the first picture."""
    if folder is None:
        return "The page has no network for browsers: start it with --browser-edge FOLDER."
    lacking = [name for name in _FILES if not (folder / name).is_file()]
    if lacking:
        return f"The page's folder for browsers lacks {', '.join(lacking)}."
    return "The picture stays in this browser; its features are sent."
