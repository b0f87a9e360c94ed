"""The cloud service: frame → detections; data sets, runs and their metrics."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import structlog
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError

from featlink.cloud.detect import Detector
from featlink.cloud.settings import CloudSettings
from featlink.cloud.warm import warm
from featlink.shared.conditions import language
from featlink.shared.conditions.language import Condition, Domain
from featlink.shared.errors import ConflictError, NotFoundError, StorageError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.categories import match
from featlink.shared.evaluation.coco import Detection
from featlink.shared.frames import wire
from featlink.shared.frames.cache import PyramidCache
from featlink.shared.frames.wire import Frame
from featlink.shared.result import HEADER, Telemetry, read_header
from featlink.shared.service.access import RUN_TOKEN, ForbiddenError, RunToken, digest, role
from featlink.shared.service.admission import RequestQueue
from featlink.shared.service.app import create_service, serve
from featlink.shared.service.observability import bind
from featlink.shared.service.problems import NotReadyError, problem
from featlink.shared.service.settings import ModelSettings, naming
from featlink.shared.service.transport import read_frame
from featlink.shared.store import Result, Store
from featlink.shared.store.summary import run_metrics

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.shared.models.torchvision_rcnn import SplitModel

log = structlog.get_logger()

_FRAME_BODY = {
    "requestBody": {"required": True, "content": {wire.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}
_COCO_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


class NewRun(BaseModel):
    """A run to open."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dataset: str = Field(description="name of a stored data set")
    condition: str | dict[str, Any] = Field("identity", description="text or JSON form", examples=["quantize:bits=4"])
    domain: Domain | None = Field(None, description="default: the condition's")
    name: str = Field("", max_length=1000, description="a note")


def create_app(settings: CloudSettings | None = None) -> FastAPI:
    """The cloud's app.

    Args:
        settings: default: from the environment.
    """
    settings = settings or CloudSettings()
    limits = wire.Limits(frame_bytes=settings.max_body)
    worker, evaluations = (RequestQueue(settings.max_requests, settings.max_waiting) for _ in range(2))
    with naming(settings, "database_url"):
        store = Store(settings.database_url)
    model: SplitModel | None = None
    detector: Detector | None = None

    def build_model() -> SplitModel:
        from featlink.shared.models.torchvision_rcnn import build  # torch takes seconds to import: after /livez answers

        with naming(settings, *ModelSettings.model_fields):
            network = build(settings.config())
        warm(network)
        facts = {"profile": settings.profile, "device": str(network.device)}
        app.state.metrics.describe(model=network.name, weights=network.weights, **facts)
        return network

    async def load() -> None:
        nonlocal model, detector
        model = await worker.run(build_model)  # OpenMP's threads, once started, belong to the thread they serve
        detector = Detector(model, PyramidCache(settings.cache_mb << 20))

    async def unready() -> str | None:
        try:
            await asyncio.to_thread(store.check)
        except StorageError as error:
            return str(error)
        return None

    async def close() -> None:
        worker.close()
        evaluations.close()
        store.close()

    app = create_service(
        "cloud",
        "Runs the heads, keeps data sets and runs, and computes COCO metrics.",
        settings,
        advice="Open a run with POST /v1/runs and read it at /v1/runs/ID/metrics. Pictures go to the edge.",
        load=load,
        unready=unready,
        network=lambda: None if model is None else f"{model.name} {model.weights}",
        close=close,
        refusals=(409, 411, 507),
        small=("/v1/runs",),
    )

    @app.exception_handler(DBAPIError)
    async def storage(request: Request, error: DBAPIError) -> JSONResponse:
        """Such as a full disk, or a database that another program holds."""
        return problem(StorageError.status, StorageError.title, f"the database: {error.orig}", request.url.path)

    def loaded() -> tuple[SplitModel, Detector]:
        if model is None or detector is None:
            raise NotReadyError("the model is still loading")
        return model, detector

    @app.post("/v1/detect", summary="Detect the objects of a frame", openapi_extra=_FRAME_BODY)
    async def detect(
        request: Request,
        run: Annotated[str | None, Query(description="collect the detections in this run")] = None,
        token: RunToken = None,
    ) -> dict[str, Any]:
        """Answers detections in COCO's results format, with the report of the whole way.

        With `run`, the result is stored before it is answered, once per image: a repeated image answers what is
        stored.
        """
        network, find = loaded()
        if run is not None and role(request.scope) == "client":
            raise ForbiddenError("results of a run come from the channel, with the services' token")
        report = read_header(request.headers.get(HEADER))
        async with contextlib.AsyncExitStack() as held:
            await held.enter_async_context(worker.enter())
            frame, received = await read_frame(request, limits)
            await held.enter_async_context(worker.place())
            report = msgspec.structs.replace(report, bits=report.bits or 8 * received)
            bind(run=run, image=frame.meta.image_id, domain=frame.meta.domain)
            if run is None:
                return _answer(network, frame, *await worker.run(lambda: find(frame, report)))
            image_id = _image_id(frame)
            await asyncio.to_thread(_check_token, store, run, token)
            result = await asyncio.to_thread(_stored, store, run, image_id, frame)
            categories = await asyncio.to_thread(lambda: store.categories(store.run(run).dataset))
            labels = match(categories, network.categories)
            names = {one.id: one.name for one in categories if one.name}
            if result is None:
                found, report = await worker.run(lambda: find(frame, report))
                found = labels.apply(found)
                fresh = Result(image_id, found, report.bits or 0, report.fidelity, report.timings, report.link_bits)
                result = (await asyncio.to_thread(store.add_result, run, fresh))[0]
            report = Telemetry(dict(result.timings), result.bits, dict(result.fidelity), result.link_bits)
            return _answer(network, frame, result.detections, report, names)

    @app.get("/v1/datasets", summary="The stored data sets")
    async def datasets() -> list[dict[str, Any]]:
        return [asdict(dataset) for dataset in await asyncio.to_thread(store.datasets)]

    @app.put("/v1/datasets/{name}", summary="Store a COCO ground truth", openapi_extra=_COCO_BODY)
    async def put_dataset(name: str, request: Request) -> dict[str, Any]:
        """The body is a COCO "instances" file. The same content again changes nothing.

        `repairs` says what had to be mended in it, e.g. ids written as 1.0.
        """
        async with evaluations.enter():
            data = await request.body()
            async with evaluations.place():
                truth, repairs = await evaluations.run(lambda: coco.read(data))
                stored = await evaluations.run(lambda: store.put_dataset(name, truth))
        if repairs:
            log.warning("data set mended", dataset=name, repairs=repairs)
        return {**asdict(stored), "repairs": repairs}

    @app.get("/v1/datasets/{name}", summary="A data set's name, digest and size")
    async def get_dataset(name: str) -> dict[str, Any]:
        return asdict(await asyncio.to_thread(store.dataset, name))

    @app.get("/v1/datasets/{name}/ground-truth", summary="A data set's COCO ground truth", response_class=JSONResponse)
    async def get_ground_truth(name: str) -> StreamingResponse:
        pieces = await asyncio.to_thread(store.ground_truth_json, name)
        return StreamingResponse(pieces, media_type="application/json")

    @app.delete("/v1/datasets/{name}", status_code=204, summary="Delete a data set that no run uses")
    async def delete_dataset(name: str) -> None:
        await asyncio.to_thread(store.delete_dataset, name)

    @app.post("/v1/runs", status_code=201, summary="Open a run: a data set × a condition")
    async def create_run(new: NewRun) -> dict[str, Any]:
        """Detections are collected under the data set's category ids, matched to the model's labels by name.

        Whoever adds results shows `token`, which is answered this once, in the header `featlink-run-token`.
        """
        condition = _condition(new)
        network, _ = loaded()
        labels = match(await asyncio.to_thread(store.categories, new.dataset), network.categories)
        token = secrets.token_urlsafe(24)
        run = await asyncio.to_thread(
            lambda: store.create_run(
                new.dataset,
                condition=str(condition),
                domain=condition.domain,
                model=network.name,
                weights=network.weights,
                name=new.name,
                token_digest=digest(token),
            )
        )
        return {
            **asdict(run),
            "token": token,
            "unknown_categories": [one.name or str(one.id) for one in labels.unknown],
        }

    @app.get("/v1/runs", summary="Runs, the newest first")
    async def runs(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100, offset: Annotated[int, Query(ge=0, lt=2**63)] = 0
    ) -> list[dict[str, Any]]:
        return [asdict(run) for run in await asyncio.to_thread(store.runs, limit, offset)]

    @app.get("/v1/runs/{run_id}", summary="A run and how far it is")
    async def get_run(run_id: str) -> dict[str, Any]:
        return asdict(await asyncio.to_thread(store.run, run_id))

    @app.get("/v1/runs/{run_id}/metrics", summary="COCO metrics, bits, fidelity and timings so far")
    async def metrics(run_id: str) -> dict[str, Any]:
        """Over the images done so far: 12 numbers for boxes, 12 for masks (null for a box-only model)."""
        async with evaluations.admit():
            return await evaluations.run(lambda: run_metrics(store, run_id))

    @app.get(
        "/v1/runs/{run_id}/detections",
        summary="All detections of a run, in COCO's results format",
        response_class=JSONResponse,
    )
    async def detections(run_id: str) -> StreamingResponse:
        await asyncio.to_thread(store.run, run_id)
        return StreamingResponse(_json_array(store.detections(run_id)), media_type="application/json")

    @app.delete("/v1/runs/{run_id}", status_code=204, summary="Delete a run and its results")
    async def delete_run(run_id: str) -> None:
        await asyncio.to_thread(store.delete_run, run_id)

    return app


def _check_token(store: Store, run_id: str, token: str | None) -> None:
    wanted = store.token_digest(run_id)
    if wanted is not None and not hmac.compare_digest(wanted, digest(token or "")):
        raise ForbiddenError(f"results enter run {run_id} with its token alone, in the header {RUN_TOKEN}")


def _condition(new: NewRun) -> Condition:
    if isinstance(new.condition, str):
        condition = language.parse(new.condition, new.domain)
    else:
        condition = language.from_fields({**({"domain": new.domain} if new.domain else {}), **new.condition})
    if new.domain not in (None, condition.domain):
        raise ConflictError(f"the run's domain is {new.domain}, its condition's is {condition.domain}")
    return condition


def _image_id(frame: Frame) -> int:
    if frame.meta.image_id is None:
        raise NotFoundError("an image that is collected in a run needs its image_id")
    return frame.meta.image_id


def _stored(store: Store, run_id: str, image_id: int, frame: Frame) -> Result | None:
    """The result that the run already has for the image.

    Raises:
        NotFoundError: no such run, or its data set has no such image.
        ConflictError: the frame came under another condition or from another network than the run's, or its picture
            is not of the size that the data set says.
    """
    run = store.run(run_id)
    came_under = language.from_fields({"domain": frame.meta.domain, **(frame.meta.condition or {})})
    if came_under != language.parse(run.condition):
        raise ConflictError(f"run {run_id} is for '{run.condition}', the frame came under '{came_under}'")
    if (run.model, run.weights) != (frame.meta.model, frame.meta.weights):
        raise ConflictError(
            f"run {run_id} is of {run.model} with weights {run.weights}, "
            f"the frame of {frame.meta.model} with {frame.meta.weights}"
        )
    annotated, sent = store.image_size(run.dataset, image_id), frame.meta.sizes.original
    if annotated != sent:
        raise ConflictError(
            f"image {image_id} of data set {run.dataset!r} has {annotated[1]}×{annotated[0]} pixels, "
            f"the picture sent {sent[1]}×{sent[0]}"
        )
    return store.find_result(run_id, image_id)


def _answer(
    model: SplitModel,
    frame: Frame,
    detections: list[Detection],
    report: Telemetry,
    names: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The answer to a frame; ``names`` are the data set's, where it has some, by category id."""
    bind(bits=report.bits, detections=len(detections))
    labels = {detection["category_id"] for detection in detections}
    height, width = frame.meta.sizes.original
    return {
        "image_id": frame.meta.image_id,
        "detections": detections,
        "categories": {str(label): names.get(label) or model.categories[label] for label in sorted(labels)},
        "bits": report.bits,
        "bpp": (report.bits or 0) / (width * height),
        "link_bits": report.link_bits,
        "fidelity": report.fidelity,
        "timings": report.timings,
    }


def _json_array(arrays: Iterator[bytes]) -> Iterator[bytes]:
    """One JSON array of the elements of several, none of them empty."""
    start = b"["
    for array in arrays:
        yield start + array[1:-1]
        start = b","
    yield b"]" if start == b"," else b"[]"


def main() -> None:
    """Serve the cloud."""
    serve("cloud", CloudSettings, create_app)
