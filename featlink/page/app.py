"""The page's app: its routes beside the pages themselves, and its process."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from nicegui import ui
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featlink.page import device, explorer, live, playground, runs
from featlink.page.context import Context, PageSettings, read_body
from featlink.page.pictures import decoded, scene_path, thumbnail
from featlink.shared.errors import ImageError
from featlink.shared.service.access import Forwarded
from featlink.shared.service.observability import configure_logging
from featlink.shared.service.settings import reachable

ASSETS = Path(__file__).parent / "assets"
_KEEP = {"cache-control": "public, max-age=31536000, immutable"}
_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'self'"
)
"""The browser itself sees to it that a page asks nobody but its own server."""


def create_app(settings: PageSettings | None = None) -> FastAPI:
    """The page's app; one in a process, since NiceGUI keeps its pages for the process.

    Args:
        settings: default: from the environment.
    """
    settings = settings or PageSettings()
    context = Context(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.close()

    app = FastAPI(title="Featlink page", version=version("featlink"), lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Headers)
    app.add_middleware(Forwarded, proxies=settings.trusted_proxies)
    app.mount("/assets", StaticFiles(directory=ASSETS))

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """The page shows what is not ready, so it always is."""
        return {"status": "ready"}

    @app.post("/pictures")
    async def put_picture(request: Request) -> JSONResponse:
        """The body is a picture file; the answer is its key."""
        if (data := await read_body(request, settings.max_picture_mb << 20)) is None:
            return JSONResponse({"detail": f"The picture is larger than {settings.max_picture_mb} MiB."}, 413)
        try:
            decoded(data)
        except ImageError as error:
            return JSONResponse({"detail": f"{error.title}: {error}"}, error.status)
        return JSONResponse({"key": context.uploads.put(data)})

    @app.get("/pictures/{key}")
    async def get_picture(key: str) -> Response:
        for pictures in (context.drawn, context.planes, context.uploads):
            if (data := pictures.get(key)) is not None:
                return Response(data, media_type=_media_type(data), headers=_KEEP)
        return Response(status_code=404)

    @app.get("/scenes/{name}")
    async def get_scene(name: str, small: bool = False) -> Response:
        path = scene_path(name)
        if path is None:
            return Response(status_code=404)
        data = thumbnail(name) if small else path.read_bytes()
        return Response(data, media_type=_media_type(data), headers=_KEEP)

    playground.add_page(context)
    live.add_page(app, context)
    device.add_page(app, context)
    explorer.add_page(context)
    runs.add_pages(app, context)
    ui.run_with(
        app,
        title="Featlink",
        favicon=(ASSETS / "favicon.svg").read_text(),
        dark=None,
        tailwind=False,
        language="en-US",
        show_welcome_message=False,
        reconnect_timeout=10,
    )
    return app


def _media_type(data: bytes) -> str:
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data.startswith(b"RIFF"):
        return "image/webp"
    return "image/bmp" if data.startswith(b"BM") else "image/jpeg"


class Headers:
    """ASGI middleware: a content security policy on every page, and an answer to HEAD as to GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", _POLICY), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*message.get("headers", []), *headers]
            elif head:
                message["body"] = b""
            await send(message)

        await self._app({**scope, "method": "GET"} if head else scope, receive, answer)


def serve(settings: PageSettings) -> None:
    """Serve the page until the process is told to stop; its address is logged first."""
    configure_logging("page", settings.log_level)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        root_path=settings.root_path,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # `Forwarded` reads them
        timeout_graceful_shutdown=3,
    )
    listening = config.bind_socket()
    listening.listen()  # from now on, who opens the address waits for an answer instead of being refused
    url = reachable(f"http://{settings.host}:{listening.getsockname()[1]}{settings.root_path}")
    structlog.get_logger().info("the page is at", url=url, edge=settings.edge_url)
    uvicorn.Server(config).run(sockets=[listening])


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a browser has left before its answer came, which Starlette's middleware takes for an error."""
    error = record.exc_info[1] if record.exc_info else None
    return str(error) != "No response returned."
