"""The services over HTTP, beside the page's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx

from featlink.client import authorization, refusal
from featlink.errors import CommandError
from featlink.page.settings import PageSettings
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame

Name = Literal["edge", "channel", "cloud"]
NAMES: tuple[Name, ...] = ("edge", "channel", "cloud")


class ServiceError(CommandError):
    """A service that cannot be reached or refuses, in one line.

    Attributes:
        passing: whether the same request may succeed later: the service is down, loading or busy.
    """

    def __init__(self, line: str, passing: bool) -> None:
        super().__init__(line)
        self.passing = passing


class Services:
    """Talks to edge, channel and cloud.

    Args:
        settings: say where they are.

    Every method raises :class:`ServiceError`.
    """

    def __init__(self, settings: PageSettings) -> None:
        timeout = httpx.Timeout(settings.timeout_s, connect=5)
        self.urls: dict[Name, str] = {
            "edge": settings.edge_url,
            "channel": settings.channel_url,
            "cloud": settings.cloud_url,
        }
        # trust_env: the services are near, and no proxy meant for the internet knows them.
        self._clients = {
            name: httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False, headers=authorization())
            for name, url in self.urls.items()
        }

    async def infer(self, picture: bytes, **params: str | int | bool | None) -> dict[str, Any]:
        """Send a picture over the link; see :meth:`featlink.client.Client.infer`."""
        given = {name: value for name, value in params.items() if value is not None}
        answer: dict[str, Any] = (await self.send("edge", "POST", "/v1/infer", content=picture, params=given)).json()
        return answer

    async def features(self, picture: bytes) -> Frame:
        """The features of a picture, as they would be sent."""
        sent = await self.send("edge", "POST", "/v1/features", content=picture, params={"domain": "feature"})
        return wire.read(sent.content)

    async def get(self, name: Name, path: str, timeout_s: float = 30, **params: str | int) -> Any:
        """A JSON answer."""
        return (await self.send(name, "GET", path, params=params, timeout=timeout_s)).json()

    async def send(self, name: Name, method: str, path: str, **request: Any) -> httpx.Response:
        """Any request."""
        try:
            response = await self._clients[name].request(method, path, **request)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServiceError(f"The {name} at {self.urls[name]} does not answer ({reason}).", passing=True) from None
        if response.is_error:
            raise ServiceError(refusal(response), passing=response.status_code in (502, 503, 504))
        return response

    async def stream(self, name: Name, path: str) -> AsyncIterator[bytes]:
        """A long answer, piece by piece; the status is checked before the first."""
        request = self._clients[name].build_request("GET", path)
        try:
            response = await self._clients[name].send(request, stream=True)
        except httpx.HTTPError as error:
            raise ServiceError(f"The {name} does not answer ({error}).", passing=True) from None
        if response.is_error:
            await response.aread()
            raise ServiceError(refusal(response), passing=False)

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in response.aiter_bytes():
                    yield piece
            finally:
                await response.aclose()

        return pieces()

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
