"""The channel service: frame → distort → cloud."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import Body, FastAPI, Query, Request
from fastapi.responses import Response, StreamingResponse

from featlink.channel.bitstream_archive import save
from featlink.channel.kept import Kept
from featlink.channel.link import Link, LinkError, parse_link
from featlink.channel.randomness import stream
from featlink.channel.settings import ChannelSettings
from featlink.channel.transmit import Transmission, with_reference
from featlink.channel.transmit import transmit as transmit_frame
from featlink.channel.warm import warm
from featlink.shared.conditions import language, registry
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.names import NAMED
from featlink.shared.errors import StorageError
from featlink.shared.frames import wire
from featlink.shared.frames.visualisation import received
from featlink.shared.frames.wire import Frame
from featlink.shared.result import HEADER, Telemetry, read_header
from featlink.shared.service.access import RunToken, run_token
from featlink.shared.service.admission import RequestQueue, remaining_s
from featlink.shared.service.app import create_service, serve
from featlink.shared.service.observability import bind
from featlink.shared.service.settings import naming
from featlink.shared.service.transport import FrameAnswers, NextService, read_frame

_FRAME_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {wire.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}

_Measure = Annotated[bool, Query(description="measure PSNR, SSIM and rank correlation")]
_LinkText = Annotated[
    str | None,
    Query(description="JSON form of a link, for this frame; default: the channel's", max_length=2048),
]
_Names = Annotated[
    str,
    Query(
        description="answer these too as they were received, as PNG: `image`, or packed levels",
        pattern=r"^((image|p[2-6])(,(image|p[2-6]))*)?$",
        examples=["image", "p2,p5"],
    ),
]


def create_app(settings: ChannelSettings | None = None) -> FastAPI:
    """The channel's app.

    Args:
        settings: default: from the environment.
    """
    settings = settings or ChannelSettings()
    with naming(settings, "condition"):
        default = language.parse(settings.condition)
        registry.chain(default)
    with naming(settings, "keep_bitstreams"):
        _check_writable(settings.keep_bitstreams)
    kept = Kept(settings.state, settings.link, default)
    limits = wire.Limits(frame_bytes=settings.max_body)
    tools = settings.tools()
    worker = RequestQueue(settings.max_requests, settings.max_waiting)
    answers = FrameAnswers(settings.max_requests * settings.max_body_mb << 20)
    cloud = NextService("cloud", settings.cloud_url, settings)

    async def load() -> None:
        await worker.run(lambda: warm(tools))

    async def close() -> None:
        worker.close()
        await cloud.close()

    app = create_service(
        "channel",
        "Distorts, codes, loses and delays what crosses the link, and counts its bits.",
        settings,
        advice="Set the link with PUT /v1/link; GET /v1/conditions has what it can do. Pictures go to the edge.",
        load=load,
        unready=cloud.unready,
        network=lambda: cloud.network,
        close=close,
        refusals=(409, 411, 502, 507),
        small=("/v1/condition", "/v1/link"),
    )

    @contextlib.asynccontextmanager
    async def admitted(request: Request) -> AsyncIterator[tuple[Frame, Telemetry]]:
        """Take a frame in, then wait for a place to work on it."""
        report = read_header(request.headers.get(HEADER))
        async with worker.enter():
            frame, _ = await read_frame(request, limits)
            bind(run=request.query_params.get("run"), image=frame.meta.image_id, domain=frame.meta.domain)
            async with worker.place():
                yield frame, report

    async def distorted(frame: Frame, report: Telemetry, fidelity: bool, over: Link) -> Transmission:
        if frame.meta.condition is None:
            condition = language.from_fields({**kept.condition.model_dump(mode="json"), "domain": frame.meta.domain})
        else:
            condition = language.from_fields({"domain": frame.meta.domain, **frame.meta.condition})

        def work() -> Transmission:
            sent = transmit_frame(frame, condition, report, fidelity, tools, over.erasure(), over.seed)
            if settings.keep_bitstreams is not None:
                save(sent, settings.keep_bitstreams)
            return sent

        return await worker.run(work)

    @app.post("/v1/transmit", summary="Send a frame through the link to the cloud", openapi_extra=_FRAME_BODY)
    async def transmit(
        request: Request,
        run: str | None = None,
        _: RunToken = None,
        fidelity: _Measure = True,
        link_text: Annotated[_LinkText, Query(alias="link")] = None,
        shown: Annotated[_Names, Query(alias="received")] = "",
    ) -> dict[str, Any]:
        """Distorts the frame as its condition (or the default) says, forwards it, and returns the cloud's answer."""
        over = kept.link if link_text is None else parse_link(link_text)  # another default may be set meanwhile
        async with admitted(request) as (source, before):
            sent = await distorted(source, before, fidelity, over)
            meta, report = sent.frame.meta, sent.report
            transfer = over.transfer(report.bits or 0, stream(over.seed, "link", meta.image_id, meta.key))
            report = msgspec.structs.replace(report.with_timings(transfer=transfer.ms), link_bits=transfer.bits)
            app.state.metrics.link_bits.labels(meta.domain).inc(transfer.bits)
            if over.wait:
                await _pass(transfer.ms / 1e3, settings.max_wait_s)
            params = {} if run is None else {"run": run}
            parts = await worker.run(lambda: with_reference(source, sent)) if fidelity else sent.parts
            answering = cloud.send("/v1/detect", parts, params, report.header() | run_token(request.headers))
            if shown:
                names = shown.split(",")
                pictures, answer = await asyncio.gather(
                    worker.run(lambda: received(source, sent.frame, names)), answering
                )
                answer |= {"received": pictures}
            else:
                answer = await answering
            condition = str(language.from_fields({"domain": meta.domain, **(meta.condition or {})}))
            bind(condition=condition, bits=report.bits, link_bits=transfer.bits)
            named = {"condition": condition, "link": over.model_dump()}
            return answer | named | ({"waited_ms": transfer.ms} if over.wait else {})

    @app.post(
        "/v1/distort",
        summary="Distort a frame and return it",
        openapi_extra=_FRAME_BODY,
        response_class=StreamingResponse,
        responses={200: {"content": _FRAME_BODY["requestBody"]["content"], "description": "The frame as it arrives"}},
    )
    async def distort(request: Request, fidelity: _Measure = True) -> Response:
        """Like transmit, but the distorted frame comes back, with its report in the `featlink-report` header."""
        async with admitted(request) as (source, before):
            sent = await distorted(source, before, fidelity, kept.link)
            response = answers.response(sent.parts)
            response.headers.update(sent.report.header())
            return response

    @app.get("/v1/condition", summary="The default condition")
    async def get_condition() -> dict[str, Any]:
        return _shown(kept.condition)

    @app.put("/v1/condition", summary="Set the default condition")
    async def put_condition(
        condition: Annotated[
            str | dict[str, Any],
            Body(examples=["quantize:bits=4", {"steps": [{"type": "quantize", "bits": 4}]}]),
        ],
    ) -> dict[str, Any]:
        """Used for frames that bring none, in the frame's own domain."""
        new = language.parse(condition) if isinstance(condition, str) else language.from_fields(condition)
        registry.chain(new)
        kept.set_condition(new)
        return _shown(new)

    @app.get("/v1/conditions", summary="The catalogue of steps, with JSON schema")
    async def catalogue() -> dict[str, Any]:
        """The JSON schema of a condition, and the text form of each named one."""
        return {"schema": registry.schema(), "named": NAMED}

    @app.get("/v1/link", summary="The simulated link")
    async def get_link() -> Link:
        return kept.link

    @app.put("/v1/link", summary="Set the simulated link")
    async def put_link(new: Link) -> Link:
        """Applies to every frame from now on."""
        kept.set_link(new)
        return new

    return app


async def _pass(seconds: float, most: float) -> None:
    """Let a transfer's time pass; at once refuse one that would hold its place for long."""
    most = min(most, remaining_s())
    if seconds > most:
        raise LinkError(f"the link would take {seconds:.3g} s, and a request may wait for {most:.3g} s at most")
    await asyncio.sleep(seconds)


def _check_writable(folder: Path | None) -> None:
    """Make a folder, and refuse one that takes no file before any request is answered."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise StorageError(f"cannot write into {folder}: {error.strerror}") from None


def _shown(condition: Condition) -> dict[str, Any]:
    return {"text": str(condition), **condition.model_dump(mode="json")}


def main() -> None:
    """Serve the channel."""
    serve("channel", ChannelSettings, create_app)
