"""The edge service: picture → backbone → frame → link."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import UploadFile

from featlink.edge.prepare import EdgePipeline, EdgeResult
from featlink.edge.prepare import Request as PictureRequest
from featlink.edge.settings import EdgeSettings
from featlink.edge.warm import warm
from featlink.shared.conditions import language
from featlink.shared.conditions.language import Domain
from featlink.shared.errors import ImageError
from featlink.shared.frames import wire
from featlink.shared.frames.cache import PyramidCache
from featlink.shared.models.overlay import draw
from featlink.shared.service.access import RunToken, run_token
from featlink.shared.service.admission import RequestQueue
from featlink.shared.service.app import create_service, serve
from featlink.shared.service.observability import bind
from featlink.shared.service.problems import NotReadyError
from featlink.shared.service.settings import ModelSettings, naming
from featlink.shared.service.transport import FrameAnswers, NextService
from featlink.shared.timing import timed

_CONTENT: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_PICTURE = _CONTENT
_FORM = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"image/jpeg": _PICTURE, "image/png": _PICTURE, "multipart/form-data": _FORM},
    }
}

_WAY = {
    "featlink-condition": {"description": "the condition it went through", "schema": {"type": "string"}},
    "featlink-link": {"description": "the link, as JSON", "schema": {"type": "string"}},
}
"""Headers of a drawn answer, by name, as OpenAPI has them."""

_LOADING = "the model is still loading"

_Domain = Annotated[Domain | None, Query(description="send features (default) or the image")]
_Text = Annotated[
    str | None,
    Query(description="text or JSON form; default: the channel's", examples=["quantize:bits=4"], max_length=8192),
]
_ImageId = Annotated[int | None, Query(ge=0, lt=2**63, description="the picture's id in the run's data set")]


def create_app(settings: EdgeSettings | None = None) -> FastAPI:
    """The edge's app.

    Args:
        settings: default: from the environment.
    """
    settings = settings or EdgeSettings()
    worker = RequestQueue(settings.max_requests, settings.max_waiting)
    answers = FrameAnswers(settings.max_requests * settings.max_body_mb << 20)
    channel = NextService("channel", settings.channel_url, settings)
    pipeline: EdgePipeline | None = None

    def build_pipeline() -> EdgePipeline:
        from featlink.shared.models.torchvision_rcnn import build  # torch takes seconds to import: after /livez answers

        with naming(settings, *ModelSettings.model_fields):
            model = build(settings.config(), heads=False)
        warm(model, settings.send_p6)
        facts = {"profile": settings.profile, "device": str(model.device)}
        app.state.metrics.describe(model=model.name, weights=model.weights, **facts)
        return EdgePipeline(model, PyramidCache(settings.cache_mb << 20), settings.max_pixels, settings.send_p6)

    async def load() -> None:
        nonlocal pipeline
        pipeline = await worker.run(build_pipeline)  # OpenMP's threads, once started, belong to the thread they serve

    def network() -> str | None:
        return None if pipeline is None else "{model} {weights}".format(**pipeline.model)

    async def unready() -> str | None:
        if reason := await channel.unready():
            return reason
        if channel.network not in (None, network()):
            return f"the cloud runs {channel.network}, the edge {network()}: FEATLINK_WEIGHTS is to be alike for both"
        return None

    async def close() -> None:
        worker.close()
        await channel.close()

    app = create_service(
        "edge",
        "Runs the backbone on a picture and sends p2–p6 (or the picture) over the link.",
        settings,
        advice="POST a picture to /v1/infer: curl --data-binary @photo.jpg 'http://…/v1/infer?condition=quantize:bits=4'",
        load=load,
        unready=unready,
        close=close,
        refusals=(409, 415, 502, 507),
    )

    @contextlib.asynccontextmanager
    async def admitted(
        request: Request, domain: Domain | None, condition: str | None, image_id: int | None
    ) -> AsyncIterator[PictureRequest]:
        """Take a picture in, then wait for a place to work on it."""
        if pipeline is None:
            raise NotReadyError(_LOADING)
        chosen = None if condition is None else language.parse(condition, domain)
        chosen_domain = domain or (chosen.domain if chosen else "feature")
        async with worker.enter():
            data = await _picture(request)
            async with worker.place():
                yield PictureRequest(data, chosen_domain, chosen, image_id)

    async def prepare(picture: PictureRequest) -> EdgeResult:
        run = pipeline
        if run is None:
            raise NotReadyError(_LOADING)
        return await worker.run(lambda: run(picture))

    @app.get("/v1/model", summary="Which network runs here, and the names of its labels")
    async def model() -> dict[str, Any]:
        """`categories` has a name for each label, the background's first."""
        if pipeline is None:
            raise NotReadyError("the model is still loading")
        return pipeline.model

    @app.post(
        "/v1/infer",
        summary="Detect the objects in a picture, over the link",
        openapi_extra=_BODY,
        response_model=None,
        responses={
            200: {
                "content": {"image/png": _CONTENT},
                "description": "The detections, or drawn in the picture, with what it went through as headers",
                "headers": _WAY,
            }
        },
    )
    async def infer(
        request: Request,
        domain: _Domain = None,
        condition: _Text = None,
        run: Annotated[str | None, Query(description="collect the detections in this run")] = None,
        _: RunToken = None,
        image_id: _ImageId = None,
        fidelity: Annotated[bool, Query(description="measure fidelity in the channel")] = True,
        link: Annotated[
            str | None,
            Query(
                description="JSON form of the simulated link; default: the channel's",
                examples=['{"rate_mbps": 20, "rtt_ms": 40}'],
                max_length=2048,
            ),
        ] = None,
        received: Annotated[
            str | None,
            Query(description="answer these as they were received, as PNG: `image`, or packed levels: `p2,p5`"),
        ] = None,
        render: Annotated[Literal["png"] | None, Query(description="answer the picture with the detections")] = None,
    ) -> dict[str, Any] | Response:
        """The body is the picture itself (JPEG, PNG, WebP, BMP) or a form with the picture as its only file."""
        started = time.monotonic()
        bind(run=run, image=image_id, condition=condition, domain=domain)
        async with admitted(request, domain, condition, image_id) as picture:
            prepared = await prepare(picture)
            parts, serialize_ms = await worker.run(lambda: timed(lambda: wire.write(prepared.frame)))
            report = prepared.report.with_timings(serialize=serialize_ms)
            optional = {"run": run, "link": link, "received": received}
            params = {"fidelity": str(fidelity).lower()} | {k: v for k, v in optional.items() if v is not None}
            answer = await channel.send("/v1/transmit", parts, params, report.header() | run_token(request.headers))
            total_ms = (time.monotonic() - started) * 1e3
            waited_ms = answer.pop("waited_ms", 0.0)
            answer["timings"]["hops"] = _unaccounted(answer["timings"], total_ms - waited_ms + prepared.reused_ms)
            answer["timings"]["total"] = total_ms
            bind(condition=answer.get("condition"), domain=prepared.frame.meta.domain)
            bind(bits=answer["bits"], detections=len(answer["detections"]))
            if render is None:
                return answer
            png = await worker.run(lambda: draw(prepared.image, answer["detections"], answer["categories"]))
            return Response(png, media_type="image/png", headers=_way(answer))

    @app.post(
        "/v1/features",
        summary="The frame a picture becomes",
        openapi_extra=_BODY,
        response_class=StreamingResponse,
        responses={200: {"content": {wire.MEDIA_TYPE: _CONTENT}, "description": "A frame"}},
    )
    async def features(request: Request, domain: _Domain = None, image_id: _ImageId = None) -> Response:
        """Returns the frame that would be sent to the channel."""
        async with admitted(request, domain, None, image_id) as picture:
            prepared = await prepare(picture)
            return answers.response(await worker.run(lambda: wire.write(prepared.frame)))

    return app


def _way(answer: dict[str, Any]) -> dict[str, str]:
    """What a picture went through, which an answer in JSON has beside its detections."""
    return {"featlink-condition": answer["condition"], "featlink-link": json.dumps(answer["link"])}


def _unaccounted(timings: dict[str, float], ms: float) -> float:
    """What of a request's time no stage accounts for: HTTP between the services. The link's time is simulated."""
    return max(0.0, ms - sum(timings.values()) + timings.get("transfer", 0.0))


async def _picture(request: Request) -> bytes:
    if not request.headers.get("content-type", "").strip().lower().startswith("multipart/form-data"):
        return await request.body()
    async with request.form(max_files=1, max_fields=4) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise ImageError("the form has no file")
        return await files[0].read()


def main() -> None:
    """Serve the edge."""
    serve("edge", EdgeSettings, create_app)
