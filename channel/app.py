"""The channel service: frame → distort → cloud."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import Body, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from prometheus_client import Gauge
from pydantic import BaseModel, ConfigDict, Field

from featlink.channel import randomness
from featlink.channel.bitstream_archive import save
from featlink.channel.link import Link, LinkError, Transfer, parse_link
from featlink.channel.persisted_state import PersistedState
from featlink.channel.settings import ChannelSettings
from featlink.channel.streams import SentFrame, StreamInfo, StreamTable
from featlink.channel.transmit import Transmission, reference, transmit
from featlink.channel.warm import warm
from featlink.shared.conditions import language, registry
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.names import NAMED
from featlink.shared.errors import ConditionError
from featlink.shared.features import FeatureSpec
from featlink.shared.frames import wire
from featlink.shared.frames.visualisation import received
from featlink.shared.frames.wire import IMAGE, Frame
from featlink.shared.result import HEADER, STREAM_ID, InferenceResult, Packets, Telemetry, read_header
from featlink.shared.service.access import RunToken, run_token
from featlink.shared.service.admission import RequestQueue, remaining_s
from featlink.shared.service.app import create_service, serve
from featlink.shared.service.observability import bind
from featlink.shared.service.settings import naming
from featlink.shared.service.transport import FRAME_BODY, FrameAnswers, NextService, StreamQuery, read_frame_bytes


class DistortQuery(BaseModel):
    """Parameters of ``POST /v1/distort``."""

    model_config = ConfigDict(extra="forbid")

    fidelity: bool = Field(True, description="measure PSNR, SSIM and rank correlation")


class TransmitQuery(DistortQuery, StreamQuery):
    """Parameters of ``POST /v1/transmit``."""

    run: str | None = Field(None, description="collect the detections in this run")
    condition: str | None = Field(
        None,
        description="text form, for a frame that brings none; default: the channel's",
        max_length=language.MOST_TEXT,
        examples=["quantize:bits=4"],
    )
    link: str | None = Field(
        None, description="JSON form of a link, for this frame; default: the channel's", max_length=2048
    )
    received: str = Field(
        "",
        description="answer these too as they were received, as PNG: `image`, or packed levels",
        pattern=r"^([a-z][a-z0-9_]*(,[a-z][a-z0-9_]*)*)?$",
        max_length=256,
        examples=["image", "p2,p5"],
    )


def create_app(settings: ChannelSettings | None = None) -> FastAPI:
    """The channel's app.

    Args:
        settings: default: from the environment.
    """
    settings = settings or ChannelSettings()
    with naming(settings, "condition"):
        default = language.parse(settings.condition)
        registry.chain(default)
    state = PersistedState(settings.state, settings.link, default)
    limits = wire.Limits(frame_bytes=settings.max_body)
    tools = settings.tools()
    queue = RequestQueue(settings.max_requests, settings.max_waiting)
    answers = FrameAnswers(settings.max_requests * settings.max_body_mb << 20)
    cloud = NextService("cloud", settings.cloud_url, settings)
    streams = StreamTable(
        tools, settings.max_streams, settings.stream_idle_s, settings.stream_mb << 20, settings.stream_wait_s
    )
    expiring: set[asyncio.Task[None]] = set()

    async def load() -> None:
        await queue.run(lambda: warm(tools))
        expiring.add(asyncio.create_task(expire()))

    async def expire() -> None:
        while True:
            await asyncio.sleep(min(settings.stream_idle_s / 4, 5))
            await queue.run(streams.expire)

    def checked(condition: Condition) -> Condition:
        """A default condition that the cloud's network can be sent under, as far as the cloud has told.

        Raises:
            ConditionError: it cannot.
        """
        registry.chain(condition)
        if cloud.network is not None:
            language.with_ranges(condition, cloud.network.features)
        return condition

    async def unready() -> str | None:
        if reason := await cloud.unready():
            return reason
        try:
            checked(state.condition)
        except ConditionError as error:
            return f"the default condition (FEATLINK_CONDITION, or as it was set): {error}"
        return None

    async def close() -> None:
        for task in expiring:
            task.cancel()
        await queue.run(streams.close)
        queue.close()
        await cloud.close()

    app = create_service(
        "channel",
        "Distorts, codes, loses and delays what crosses the link, and counts its bits.",
        settings,
        advice="Set the link with PUT /v1/link; GET /v1/conditions has what it can do. Pictures go to the edge.",
        load=load,
        unready=unready,
        network=lambda: cloud.network,
        close=close,
        refusals=(409, 411, 502, 507),
        small=("/v1/condition", "/v1/link"),
    )

    Gauge("featlink_streams", "Open streams.", registry=app.state.metrics.registry).set_function(lambda: len(streams))

    @contextlib.asynccontextmanager
    async def admitted(
        request: Request, query: TransmitQuery | None = None
    ) -> AsyncIterator[tuple[Frame, Condition, Telemetry]]:
        """Take a frame in, then wait for a place to work on it; in a stream, first for the frames before it."""
        telemetry = read_header(request.headers.get(HEADER))
        async with queue.enter():
            frame = wire.read(await read_frame_bytes(request, limits), limits)
            meta = frame.meta
            condition = meta.condition or language.in_domain(state.condition, meta.domain)
            if query is not None and query.condition is not None:
                if meta.condition is not None:
                    raise ConditionError("the frame brings a condition, and the query has another")
                condition = language.parse(query.condition, meta.domain)
            bind(domain=meta.domain, image=meta.image_id, condition=str(condition))
            if query is not None and query.stream is not None and query.frame is not None:
                await streams.turn(query.stream, query.frame)
            async with queue.place():
                yield frame, condition, telemetry

    async def transmitted(
        frame: Frame, condition: Condition, telemetry: Telemetry, fidelity: bool, link: Link
    ) -> Transmission:
        def work() -> Transmission:
            sent = transmit(frame, condition, telemetry, fidelity, tools, link.erasure(), link.seed)
            if settings.keep_bitstreams is not None:
                save(sent, settings.keep_bitstreams)
            return sent

        return await queue.run(work)

    @app.post(
        "/v1/transmit",
        summary="Send a frame through the link to the cloud",
        openapi_extra=FRAME_BODY,
        response_model_exclude_unset=True,
    )
    async def send(request: Request, query: Annotated[TransmitQuery, Query()], _: RunToken = None) -> InferenceResult:
        """Distorts the frame as its condition (or the default) says, forwards it, and returns the cloud's answer."""
        link = state.link if query.link is None else parse_link(query.link)  # another default may be set meanwhile
        bind(run=query.run, stream=query.stream, frame=query.frame)
        async with admitted(request, query) as (source, condition, telemetry):
            names = _known(query.received, source.meta.features)
            said: dict[str, Any] = {"condition": str(condition), "link": link.model_dump()}
            frame: SentFrame | None = None
            if query.stream is None or query.frame is None:
                sent = await transmitted(source, condition, telemetry, query.fidelity, link)
            else:
                of_stream = functools.partial(streams.push, query.stream, query.frame)
                frame = await queue.run(lambda: of_stream(source, condition, telemetry, query.fidelity, link))
                await streams.moved()
                if frame.result is not None:
                    return frame.result
                sent, said["stream"] = frame.transmission, frame.state
            meta, telemetry = source.meta, sent.telemetry
            if frame is None:
                rng = randomness.stream(link.seed, "link", meta.image_id, meta.key)
                transfer = link.transfer(telemetry.bits or 0, rng, 0 if sent.packets is None else sent.packets.rounds)
                left_s = transfer.ms / 1e3
            else:
                transfer = Transfer(frame.passage.ms, frame.passage.bits)
                left_s = max(0.0, frame.passage.arrival_s - time.monotonic())
            telemetry = msgspec.structs.replace(telemetry.with_timings(transfer=transfer.ms), link_bits=transfer.bits)
            bind(bits=telemetry.bits, link_bits=transfer.bits)
            app.state.metrics.link_bits.labels(meta.domain).inc(transfer.bits)
            if link.wait:
                await _pass(left_s, settings.max_wait_s)
                said["waited_ms"] = left_s * 1e3
            if sent.packets is not None:
                said["packets"] = Packets(
                    lost=sent.packets.lost,
                    sent=sent.packets.packets,
                    resent=sent.packets.resent,
                    units=sent.packets.units,
                    missing=sent.packets.missing,
                    rows=sent.packets.rows,
                )
            clean = await queue.run(lambda: reference(source, sent)) if query.fidelity else []
            params = {} if query.run is None else {"run": query.run}
            headers = telemetry.header() | run_token(request.headers)
            answering = cloud.send("/v1/detect", [*sent.parts, *clean], params, headers)
            if names:
                drawing = queue.run(lambda: received(source, sent.frame, names))
                said["received"], result = await asyncio.gather(drawing, answering)
            else:
                result = await answering
            result = result.updated(**said)
            if frame is not None:
                frame.answered(result)
            return result

    @app.post(
        "/v1/distort",
        summary="Distort a frame and return it",
        openapi_extra=FRAME_BODY,
        response_class=StreamingResponse,
        responses={200: {"content": FRAME_BODY["requestBody"]["content"], "description": "The frame as it arrives"}},
    )
    async def distort(request: Request, query: Annotated[DistortQuery, Query()]) -> Response:
        """Like transmit, but the distorted frame comes back, with its telemetry in the `featlink-report` header."""
        async with admitted(request) as (source, condition, telemetry):
            sent = await transmitted(source, condition, telemetry, query.fidelity, state.link)
            response = answers.response(sent.parts)
            response.headers.update(sent.telemetry.header())
            return response

    @app.get("/v1/streams", summary="The open streams")
    async def list_streams() -> list[StreamInfo]:
        return await queue.run(streams.listed)

    @app.delete("/v1/streams/{stream}", summary="Close a stream", status_code=204)
    async def end_stream(stream: Annotated[str, Path(pattern=STREAM_ID)]) -> None:
        """Its coders end; a further frame begins it anew."""
        await queue.run(lambda: streams.end(stream))

    @app.get("/v1/condition", summary="The default condition")
    async def get_condition() -> dict[str, Any]:
        return _to_dict(state.condition)

    @app.put("/v1/condition", summary="Set the default condition")
    async def put_condition(
        condition: Annotated[
            str | dict[str, Any],
            Body(examples=["quantize:bits=4", {"steps": [{"type": "quantize", "bits": 4}]}]),
        ],
    ) -> dict[str, Any]:
        """Used for frames that bring none, in the frame's own domain."""
        await cloud.unready()  # which may have another network by now
        new = language.parse(condition) if isinstance(condition, str) else language.from_fields(condition)
        state.set_condition(checked(new))
        return _to_dict(new)

    @app.get("/v1/conditions", summary="The catalogue of steps, with JSON schema")
    async def catalogue() -> dict[str, Any]:
        """The JSON schema of a condition, and the text form of each named one."""
        return {"schema": registry.schema(), "named": NAMED}

    @app.get("/v1/link", summary="The simulated link")
    async def get_link() -> Link:
        return state.link

    @app.put("/v1/link", summary="Set the simulated link")
    async def put_link(new: Link) -> Link:
        """Applies to every frame from now on."""
        state.set_link(new)
        return new

    return app


def _known(received: str, spec: FeatureSpec) -> list[str]:
    """Names of tensors, all of them known."""
    names = received.split(",") if received else []
    if unknown := set(names) - {IMAGE, *spec.names}:
        message = f"no tensor {min(unknown)!r}; known are {', '.join((IMAGE, *spec.names))}"
        raise RequestValidationError([{"loc": ("query", "received"), "msg": message}])
    return names


async def _pass(seconds: float, most: float) -> None:
    """Let a transfer's time pass; at once refuse one that would hold its place for long."""
    most = min(most, remaining_s())
    if seconds > most:
        raise LinkError(f"the link would take {seconds:.3g} s, and a request may wait for {most:.3g} s at most")
    await asyncio.sleep(seconds)


def _to_dict(condition: Condition) -> dict[str, Any]:
    return {"text": str(condition), **condition.model_dump(mode="json")}


def main() -> None:
    """Serve the channel."""
    serve("channel", ChannelSettings, create_app)
