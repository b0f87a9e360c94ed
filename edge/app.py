"""The edge service: picture → backbone → frame → link."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from featlink.edge.prepare import Prepared, prepare, warm
from featlink.edge.prepare import Request as Picture
from featlink.edge.settings import EdgeSettings
from featlink.shared.conditions import language
from featlink.shared.conditions.language import Condition, Domain
from featlink.shared.errors import ImageError
from featlink.shared.frames import wire
from featlink.shared.lru import PyramidCache
from featlink.shared.models.overlay import draw
from featlink.shared.result import STREAM_ID, InferenceResult
from featlink.shared.service.access import RunToken, run_token
from featlink.shared.service.admission import RequestQueue
from featlink.shared.service.app import create_service, serve
from featlink.shared.service.observability import bind
from featlink.shared.service.problems import NotReadyError
from featlink.shared.service.settings import build_model
from featlink.shared.service.transport import FrameAnswers, NextService, StreamQuery
from featlink.shared.timing import timed

if TYPE_CHECKING:
    from featlink.shared.models.protocol import SplitModel

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_HEADERS = {
    "featlink-condition": {"description": "the condition it went through", "schema": {"type": "string"}},
    "featlink-link": {"description": "the link, as JSON", "schema": {"type": "string"}},
}
"""Of a drawn answer, by name, as OpenAPI has them."""


class FeaturesQuery(BaseModel):
    """Parameters of ``POST /v1/features``, in the query or as fields of a form."""

    model_config = ConfigDict(extra="forbid")

    domain: Domain | None = Field(None, description="send features (default) or the image")
    image_id: int | None = Field(None, ge=0, lt=2**63, description="the picture's id in the run's data set")

    def parsed(self) -> Condition | None:
        """The condition asked for, in the domain asked for.

        Raises:
            ConditionError: it cannot be read.
        """
        return None


class InferQuery(FeaturesQuery, StreamQuery):
    """Parameters of ``POST /v1/infer``, in the query or as fields of a form."""

    condition: str | None = Field(
        None,
        description="text or JSON form; default: the channel's",
        examples=["quantize:bits=4", "image: hevc(qp=32, gop=low_delay) @ at=original"],
        max_length=language.MOST_TEXT,
    )
    run: str | None = Field(None, description="collect the detections in this run")
    fidelity: bool = Field(True, description="measure fidelity in the channel")
    link: str | None = Field(
        None,
        description="JSON form of the simulated link; default: the channel's",
        examples=['{"rate_mbps": 20, "rtt_ms": 40}'],
        max_length=2048,
    )
    received: str | None = Field(
        None, description="answer these as they were received, as PNG: `image`, or packed levels: `p2,p5`"
    )
    render: Literal["png"] | None = Field(None, description="answer the picture with the detections")

    def parsed(self) -> Condition | None:
        """See :meth:`FeaturesQuery.parsed`."""
        return None if self.condition is None else language.parse(self.condition, self.domain)


Q = TypeVar("Q", bound=FeaturesQuery)


class TensorDescription(BaseModel):
    """A feature tensor that crosses the link."""

    name: str = Field(description="in frames, and in `received`")
    channels: int
    stride: int = Field(description="pixels of the network input per position")


class ModelDescription(BaseModel):
    """Which network a service runs."""

    model: str = Field(description="its architecture")
    weights: str = Field(description="identity of its weights")
    profile: str = Field(description="its numerics")
    device: str = Field(description="what it runs on: cpu or cuda")
    categories: list[str] = Field(description="name of each label, the background's first")
    features: list[TensorDescription] = Field(description="what crosses the link, the finest first")


def create_app(settings: EdgeSettings | None = None) -> FastAPI:
    """The edge's app.

    Args:
        settings: default: from the environment.
    """
    settings = settings or EdgeSettings()
    queue = RequestQueue(settings.max_requests, settings.max_waiting)
    answers = FrameAnswers(settings.max_requests * settings.max_body_mb << 20)
    channel = NextService("channel", settings.channel_url, settings)
    cache = PyramidCache(settings.cache_mb << 20)
    model: SplitModel | None = None

    async def load() -> None:
        nonlocal model
        # OpenMP's threads, once started, belong to the thread they serve
        model = await queue.run(lambda: build_model(settings, warm, heads=False))
        app.state.metrics.describe(
            model=model.name, weights=model.weights, profile=settings.profile, device=model.device
        )

    async def unready() -> str | None:
        if reason := await channel.unready():
            return reason
        here = None if model is None else f"{model.name} {model.weights}"
        there = None if channel.network is None else channel.network.network
        if there not in (None, here):
            return f"the cloud runs {there}, the edge {here}: FEATLINK_WEIGHTS is to be alike for both"
        return None

    async def close() -> None:
        queue.close()
        await channel.close()

    app = create_service(
        "edge",
        "Runs the backbone on a picture and sends its features (or the picture) over the link.",
        settings,
        advice="POST a picture to /v1/infer: curl --data-binary @photo.jpg 'http://…/v1/infer?condition=quantize:bits=4'",
        load=load,
        unready=unready,
        close=close,
        refusals=(409, 415, 502, 507),
    )

    def loaded() -> SplitModel:
        if model is None:
            raise NotReadyError("the model is still loading")
        return model

    @contextlib.asynccontextmanager
    async def prepared(request: Request, query: Q) -> AsyncIterator[tuple[Prepared, Q]]:
        """Take a picture in, wait for a place to work on it, and prepare it; with what its form says beside it."""
        _bind(query)
        network = loaded()
        condition = query.parsed()  # what is wrong is said before the picture is uploaded
        async with queue.enter():
            data, fields = await _picture(request)
            if fields:
                query = _with_fields(query, fields)
                _bind(query)
                condition = query.parsed()
            domain = query.domain or (condition.domain if condition else "feature")
            bind(domain=domain)
            picture = Picture(data, domain, condition, query.image_id)
            job = functools.partial(
                prepare, network, picture, max_pixels=settings.max_pixels, cache=cache, send_derived=settings.send_p6
            )
            async with queue.place():
                yield await queue.run(job), query

    @app.get("/v1/model", summary="Which network runs here, and the names of its labels")
    async def describe() -> ModelDescription:
        network = loaded()
        return ModelDescription(
            model=network.name,
            weights=network.weights,
            profile=network.profile,
            device=network.device.partition(":")[0],
            categories=list(network.categories),
            features=[
                TensorDescription(name=one.name, channels=one.channels, stride=one.stride)
                for one in network.spec.tensors
            ],
        )

    @app.post(
        "/v1/infer",
        summary="Detect the objects in a picture, over the link",
        openapi_extra=_body(InferQuery),
        response_model=InferenceResult,
        response_model_exclude={"waited_ms"},
        response_model_exclude_unset=True,
        responses={
            200: {
                "content": {"image/png": _BINARY},
                "description": "The detections, or drawn in the picture, with what it went through as headers",
                "headers": _HEADERS,
            }
        },
    )
    async def infer(
        request: Request, query: Annotated[InferQuery, Query()], _: RunToken = None
    ) -> InferenceResult | Response:
        """The body is the picture itself (JPEG, PNG, WebP, BMP) or a form with the picture as its only file."""
        started = time.monotonic()
        async with prepared(request, query) as (picture, query):
            parts, serialize_ms = await queue.run(lambda: timed(lambda: wire.write(picture.frame)))
            telemetry = picture.telemetry.with_timings(serialize=serialize_ms)
            params = query.model_dump(include={"run", "link", "received", "stream", "frame"}, exclude_none=True)
            params["fidelity"] = str(query.fidelity).lower()
            result = await channel.send("/v1/transmit", parts, params, telemetry.header() | run_token(request.headers))
            total_ms = (time.monotonic() - started) * 1e3
            hops_ms = _unaccounted(result.timings, total_ms - result.waited_ms + picture.saved_ms)
            result = result.updated(timings={**result.timings, "hops": hops_ms, "total": total_ms})
            bind(condition=result.condition, bits=result.bits, detections=len(result.detections))
            if query.render is None:
                return result
            png = await queue.run(lambda: draw(picture.image, result.detections, result.categories))
            headers = {"featlink-condition": result.condition, "featlink-link": json.dumps(result.link)}
            return Response(png, media_type="image/png", headers=headers)

    @app.delete("/v1/streams/{stream}", summary="Close a stream", status_code=204)
    async def end_stream(stream: Annotated[str, Path(pattern=STREAM_ID)]) -> None:
        """The channel ends its coders; a further frame begins it anew."""
        await channel.delete(f"/v1/streams/{stream}")

    @app.post(
        "/v1/features",
        summary="The frame a picture becomes",
        openapi_extra=_body(FeaturesQuery),
        response_class=StreamingResponse,
        responses={200: {"content": {wire.MEDIA_TYPE: _BINARY}, "description": "A frame"}},
    )
    async def features(request: Request, query: Annotated[FeaturesQuery, Query()]) -> Response:
        """Returns the frame that would be sent to the channel."""
        async with prepared(request, query) as (picture, _):
            return answers.response(await queue.run(lambda: wire.write(picture.frame)))

    return app


def _body(query: type[FeaturesQuery]) -> dict[str, Any]:
    """OpenAPI of a body that is a picture, or a form with one and what the query can say."""
    form = query.model_json_schema()
    form["properties"] = {"image": _BINARY["schema"], **form["properties"]}
    content = {"image/jpeg": _BINARY, "image/png": _BINARY, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


async def _picture(request: Request) -> tuple[bytes, dict[str, str]]:
    """The picture file's bytes, and the other fields of its form."""
    if not request.headers.get("content-type", "").strip().lower().startswith("multipart/form-data"):
        return await request.body(), {}
    async with request.form(max_files=1, max_fields=len(InferQuery.model_fields)) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise ImageError("the form has no file")
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        if twice := {name for name, _ in fields if len(form.getlist(name)) > 1}:
            raise _refused({"type": "value_error", "msg": "given twice", "loc": (min(twice),)})
        return await files[0].read(), dict(fields)


def _with_fields(query: Q, fields: dict[str, str]) -> Q:
    """A query with a form's fields; what both say is refused."""
    given = query.model_dump(exclude_unset=True)
    if both := given.keys() & fields.keys():
        raise _refused({"type": "value_error", "msg": "given in the query and in the form", "loc": (min(both),)})
    try:
        return type(query).model_validate(given | fields)
    except ValidationError as error:
        raise _refused(*error.errors()) from None


def _refused(*errors: Any) -> RequestValidationError:
    return RequestValidationError([{**error, "loc": ("body", *error["loc"])} for error in errors])


def _bind(query: FeaturesQuery) -> None:
    """Say in the log what is asked for, also where it is refused."""
    asked = query.model_dump(include={"run", "condition", "stream", "frame"})
    bind(domain=query.domain, image=query.image_id, **asked)


def _unaccounted(timings: dict[str, float], ms: float) -> float:
    """What of a request's time no stage accounts for: HTTP between the services. The link's time is simulated."""
    return max(0.0, ms - sum(timings.values()) + timings.get("transfer", 0.0))


def main() -> None:
    """Serve the edge."""
    serve("edge", EdgeSettings, create_app)
