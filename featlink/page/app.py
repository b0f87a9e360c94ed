"""The page's app: what it serves beside the pages themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from nicegui import ui
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featlink.page import health
from featlink.page.context import Context
from featlink.page.explore import view as explore
from featlink.page.pictures import decoded, scene_path, thumbnail
from featlink.page.play import view as play
from featlink.page.runs import view as runs
from featlink.page.runs.downloads import add_downloads
from featlink.page.services import Services
from featlink.page.settings import PageSettings
from featlink.shared.errors import ImageError

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
    context = Context(settings, Services(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await context.services.close()

    app = FastAPI(title="Featlink page", version=version("featlink"), lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Policy)
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
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > settings.max_picture_mb << 20:
                return JSONResponse({"detail": f"The picture is larger than {settings.max_picture_mb} MiB."}, 413)
        try:
            decoded(bytes(data))
        except ImageError as error:
            return JSONResponse({"detail": f"{error.title}: {error}"}, error.status)
        return JSONResponse({"key": context.uploads.put(bytes(data))})

    @app.get("/pictures/{key}")
    async def get_picture(key: str) -> Response:
        for store in (context.drawn, context.planes, context.uploads):
            if (data := store.get(key)) is not None:
                return Response(data, media_type=_media_type(data), headers=_KEEP)
        return Response(status_code=404)

    @app.get("/scenes/{name}")
    async def get_scene(name: str, small: bool = False) -> Response:
        path = scene_path(name)
        if path is None:
            return Response(status_code=404)
        data = thumbnail(name) if small else path.read_bytes()
        return Response(data, media_type=_media_type(data), headers=_KEEP)

    add_downloads(app, context)
    for one in (play, explore, runs, health):
        one.add_page(context)
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


class Policy:
    """ASGI middleware: a content security policy on every page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(b"content-security-policy", _POLICY), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        await self._app(scope, receive, with_policy if scope["type"] == "http" else send)
