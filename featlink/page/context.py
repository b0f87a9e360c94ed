"""State shared by all pages of one process: settings, the deployment, pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from pydantic import Field
from starlette.requests import Request

from featlink.client import Client
from featlink.errors import CommandError, RefusalError
from featlink.page.forms import Catalogue, controls, step_forms
from featlink.page.pictures import Inference, PictureStore
from featlink.shared.service.settings import ProxySettings, reachable

T = TypeVar("T")
P = ParamSpec("P")

_REQUESTS = 32
"""Requests to the services at a time, of all visitors together."""


class PageSettings(ProxySettings):
    """``FEATLINK_*`` environment variables of the page; an empty one counts as unset."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    root_path: str = Field("", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="path below which a proxy shows the page")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    edge_url: str = Field("http://127.0.0.1:8001", description="where the edge listens")
    channel_url: str = Field("http://127.0.0.1:8002", description="where the channel listens")
    cloud_url: str = Field("http://127.0.0.1:8003", description="where the cloud listens")
    public_edge_url: str | None = Field(None, description="the edge's address in copied commands; default: edge_url")
    public_cloud_url: str | None = Field(None, description="the cloud's address in copied lines; default: cloud_url")
    sweeps: Path = Field(Path("out"), description="folder in which finished sweeps are looked for")
    browser_edge: Path | None = Field(None, description="folder of an export that a visitor's browser runs")
    timeout_s: float = Field(300, gt=0, description="how long to wait for a service's answer")
    max_picture_mb: int = Field(32, ge=1, description="largest picture in MiB")

    def public_urls(self, host: str) -> tuple[str, str]:
        """The addresses of edge and cloud for people.

        Args:
            host: by which the reader of the page found this machine; it stands in for an address that means "all".
        """
        urls = self.public_edge_url or self.edge_url, self.public_cloud_url or self.cloud_url
        edge, cloud = (reachable(url, host) for url in urls)
        return edge, cloud


def passing(error: CommandError) -> bool:
    """Whether the same request may succeed later: the service is down, loading or busy."""
    return not isinstance(error, RefusalError) or error.status in (502, 503, 504)


class Context:
    """Shared by every visitor.

    Args:
        settings: of the page.

    Attributes:
        client: asks the services; every request of it goes through :meth:`ask`.
        uploads: pictures that visitors sent.
        drawn: pictures that were drawn for them.
        planes: planes of features, which are large.
        inference: of the playground.
    """

    def __init__(self, settings: PageSettings) -> None:
        self.settings = settings
        self.client = Client(
            settings.edge_url, settings.cloud_url, settings.timeout_s, settings.channel_url, patient=False
        )
        self.uploads = PictureStore(max(256, settings.max_picture_mb) << 20)
        self.drawn = PictureStore(128 << 20)
        self.planes = PictureStore(256 << 20)
        self.inference = Inference(self.client, self.ask, self.drawn, self.planes)
        self._threads = ThreadPoolExecutor(_REQUESTS, thread_name_prefix="request")
        self._catalogue: Catalogue | None = None

    async def ask(self, request: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a request beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(request, *args, **kwargs))

    async def catalogue(self) -> Catalogue:
        """What the deployment offers, asked once while the same one runs.

        Raises:
            CommandError: it does not answer.
        """
        if self._catalogue is None:
            offered, link, model = await asyncio.gather(
                self.ask(self.client.catalogue), self.ask(self.client.link_schema), self.ask(self.client.model)
            )
            self._catalogue = Catalogue(
                step_forms(offered["schema"]),
                controls(offered["schema"], leave_out=("domain", "steps", "ranges")),
                controls(link, leave_out=("wait",)),
                dict(offered["named"]),
                levels_of(model),
            )
        return self._catalogue

    def forget(self) -> None:
        """Ask again: another deployment may have taken the place of the one that stopped."""
        self._catalogue = None
        self.inference.forget()

    def close(self) -> None:
        """Close all connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()


def levels_of(model: dict[str, Any]) -> tuple[str, ...]:
    """Names of a model's feature tensors, as ``GET /v1/model`` has them."""
    return tuple(str(tensor["name"]) for tensor in model.get("features", []))


async def read_body(request: Request, most: int) -> bytes | None:
    """A request's body; None if it has more bytes than that."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            return None
    return bytes(data)


class Latest(Generic[T]):
    """One job at a time, and of those asked for meanwhile only the newest.

    Answers come in the order of their questions, so an older one never takes a newer one's place, and a slider that
    is moved quickly does not pile up inferences.

    Args:
        work: does one job; must not raise.
    """

    def __init__(self, work: Callable[[T], Awaitable[None]]) -> None:
        self._work = work
        self._next: list[T] = []
        self._task: asyncio.Task[None] | None = None

    def ask(self, job: T) -> None:
        """Do this job, now or when the one in work is done; it replaces another that waits."""
        self._next = [job]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    @property
    def waiting(self) -> bool:
        """Whether a newer job waits for the one in work."""
        return bool(self._next)

    async def _run(self) -> None:
        while self._next:
            await self._work(self._next.pop())

    async def idle(self) -> None:
        """Wait until all is done."""
        if self._task is not None:
            await self._task
