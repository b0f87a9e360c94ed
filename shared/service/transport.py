"""Frames over HTTP: streamed in under limits, sent on without copying their buffers."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
from fastapi import Request
from pydantic import BaseModel, Field, ValidationError, model_validator
from starlette.responses import StreamingResponse

from featlink.shared.buffers import BufferPool
from featlink.shared.conditions.language import validation_line
from featlink.shared.errors import FeatlinkError, FrameError
from featlink.shared.features import FeatureSpec
from featlink.shared.frames import wire
from featlink.shared.result import STREAM_ID, InferenceResult
from featlink.shared.service import admission
from featlink.shared.service.observability import traceparent
from featlink.shared.service.problems import MEDIA_TYPE, BusyError, RelayedProblem, UpstreamError
from featlink.shared.service.settings import ServiceSettings

_CHUNK = 1 << 20
_received = BufferPool(keep=1)

FRAME_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {wire.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}
"""A body that is a frame, as OpenAPI has it."""


class StreamQuery(BaseModel):
    """Parameters of a request whose picture may be a frame of a stream."""

    stream: str | None = Field(
        None,
        description="id of the stream that the picture is a frame of; the sender chooses it",
        pattern=STREAM_ID,
        examples=["camera-1"],
    )
    frame: int | None = Field(
        None, description="the frame's number in the stream, from 0", ge=0, lt=2**63, examples=[0, 1]
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.stream is None) != (self.frame is None):
            raise ValueError("stream and frame go together")
        return self


class LengthRequiredError(FeatlinkError):
    """A frame was sent without saying how long it is."""

    status = 411
    title = "Length required"


async def read_frame_bytes(request: Request, limits: wire.Limits) -> memoryview:
    """Receive what begins with a frame.

    Garbage is refused after its first bytes; memory is taken once, for the declared length.

    Raises:
        FrameError: it does not begin with a frame, or is beyond a limit.
        LengthRequiredError: no ``Content-Length``.
    """
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal():
        raise LengthRequiredError("a frame needs a Content-Length")
    length = int(declared)
    if length > limits.frame_bytes:
        raise FrameError(f"frame of {length} bytes exceeds the limit of {limits.frame_bytes}")
    buffer = _received.take(length)  # not zeroed: pages are taken as bytes arrive
    received, checked = 0, False
    async for chunk in request.stream():
        if received + len(chunk) > length:
            raise FrameError("body is longer than its Content-Length")
        buffer[received : received + len(chunk)] = chunk
        received += len(chunk)
        if not checked and received >= wire.PREFIX_BYTES:
            wire.check_prefix(buffer[: wire.PREFIX_BYTES], limits)
            checked = True
    return buffer[:received]


class FrameAnswers:
    """Frames as HTTP answers, with a bound on those that slow clients have not read yet.

    Args:
        most: bytes of all such frames.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def response(self, parts: list[wire.Buffer]) -> StreamingResponse:
        """A frame as an answer.

        Raises:
            BusyError: too many are read slowly.
        """
        size = wire.nbytes(parts)
        if self._held and self._held + size > self._most:
            raise BusyError("frames that others read slowly fill the memory for them; try again")
        headers = {"content-length": str(size)}
        return StreamingResponse(self._counted(parts, size), media_type=wire.MEDIA_TYPE, headers=headers)

    async def _counted(self, parts: list[wire.Buffer], size: int) -> AsyncIterator[Any]:
        self._held += size  # here, and not before: an answer whose client has gone may never be begun
        try:
            async for chunk in _chunks(parts):
                yield chunk
        finally:
            self._held -= size


@dataclass(frozen=True)
class Network:
    """The network at the end of the line, of which ``/readyz`` tells the service before.

    Attributes:
        network: its name and the identity of its weights.
        features: what it takes.
    """

    network: str
    features: FeatureSpec


class NextService:
    """Client of the next service down the line.

    Args:
        name: for error messages.
        url: its base URL.
        settings: of the service that asks: how long it waits, its token, whom it trusts.
    """

    def __init__(self, name: str, url: str, settings: ServiceSettings) -> None:
        self.name = name
        self.url = url
        self.network: Network | None = None
        self._timeout = settings.timeout_s
        token = settings.service_token
        # trust_env: the link to the next service never goes through a proxy meant for the internet.
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(settings.timeout_s, connect=5),
            trust_env=False,
            headers={"authorization": f"Bearer {token.get_secret_value()}"} if token else None,
            verify=_trusted(settings.tls_ca) if url.startswith("https:") else True,
        )

    async def send(
        self, path: str, parts: list[wire.Buffer], params: Mapping[str, str], headers: Mapping[str, str]
    ) -> InferenceResult:
        """POST a frame, and what goes with it.

        Raises:
            RelayedProblem: it answered with a problem.
            UpstreamError: it cannot be reached, timed out, or did not answer a result.
        """
        timeout = max(0.001, min(self._timeout, admission.remaining_s()))
        headers = {
            "content-type": wire.MEDIA_TYPE,
            "content-length": str(wire.nbytes(parts)),
            "traceparent": traceparent(),
            admission.HEADER: str(math.ceil(timeout * 1e3)),
            **headers,
        }
        body = await self._answer(self._client.post(path, content=_chunks(parts), params=params, headers=headers))
        try:
            return InferenceResult.model_validate(body)
        except ValidationError as error:
            raise UpstreamError(f"{self.name} at {self.url} answered no result: {validation_line(error)}") from None

    async def delete(self, path: str) -> None:
        """DELETE what is there.

        Raises:
            RelayedProblem: it answered with a problem.
            UpstreamError: as for :meth:`send`.
        """
        await self._answer(self._client.delete(path, headers={"traceparent": traceparent()}))

    async def _answer(self, asking: Awaitable[httpx.Response]) -> dict[str, Any]:
        """The JSON that is answered; of an empty answer, nothing."""
        try:
            response = await asking
            body = response.json() if response.content else {}
        except httpx.HTTPError as error:
            raise UpstreamError(f"{self.name} at {self.url}: {str(error) or type(error).__name__}") from None
        except ValueError:
            raise UpstreamError(f"{self.name} at {self.url} did not answer JSON") from None
        is_problem = response.headers.get("content-type", "").startswith(MEDIA_TYPE)
        if not isinstance(body, dict) or not (is_problem or response.is_success):
            raise UpstreamError(f"{self.name} at {self.url} is no Featlink service: it answered {response.status_code}")
        if is_problem:
            raise RelayedProblem(response.status_code, body, response.headers.get("retry-after"))
        return body

    async def unready(self) -> str | None:
        """Why the service is not ready, or None; ``network`` is then which network it tells of."""
        try:
            response = await self._client.get("/readyz", timeout=5)
        except httpx.HTTPError as error:
            return f"{self.name} at {self.url}: {str(error) or type(error).__name__}"
        try:
            body = response.json()
        except ValueError:
            body = None
        about = body if isinstance(body, dict) else {}
        self.network = _network(about)
        return None if response.is_success else f"{self.name} is not ready: {about.get('detail', response.status_code)}"

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


def _network(about: dict[str, Any]) -> Network | None:
    try:
        return msgspec.convert(about, Network)
    except (msgspec.ValidationError, FeatlinkError):  # it is not ready, or of another version
        return None


def _trusted(certificates: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certificates)
    except OSError as error:  # ssl's errors too
        raise FeatlinkError(f"FEATLINK_TLS_CA {certificates}: {error}") from None


async def _chunks(parts: list[wire.Buffer]) -> AsyncIterator[Any]:
    """Views of at most a mebibyte: sockets take no more at once, and a client would copy the rest again."""
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, len(view), _CHUNK):
            yield view[start : start + _CHUNK]
