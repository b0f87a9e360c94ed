"""The cloud service: frame → detections. Data sets and runs are in :mod:`featlink.cloud.runs`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError

from featlink.cloud.finish import finish, warm
from featlink.cloud.runs import add_runs, collect
from featlink.cloud.settings import CloudSettings
from featlink.shared.errors import StorageError
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame
from featlink.shared.lru import PyramidCache
from featlink.shared.result import HEADER, Detection, InferenceResult, Telemetry, read_header
from featlink.shared.service.access import ForbiddenError, RunToken, role
from featlink.shared.service.admission import RequestQueue
from featlink.shared.service.app import create_service, serve
from featlink.shared.service.observability import bind
from featlink.shared.service.problems import NotReadyError, problem
from featlink.shared.service.settings import build_model, naming
from featlink.shared.service.transport import FRAME_BODY, Network, read_frame_bytes
from featlink.shared.store import Store

if TYPE_CHECKING:
    from featlink.shared.models.protocol import SplitModel


def create_app(settings: CloudSettings | None = None) -> FastAPI:
    """The cloud's app.

    Args:
        settings: default: from the environment.
    """
    settings = settings or CloudSettings()
    limits = wire.Limits(frame_bytes=settings.max_body)
    queue, evaluations = (RequestQueue(settings.max_requests, settings.max_waiting) for _ in range(2))
    with naming(settings, "database_url"):
        store = Store(settings.database_url)
    cache = PyramidCache(settings.cache_mb << 20)
    model: SplitModel | None = None

    async def load() -> None:
        nonlocal model
        # OpenMP's threads, once started, belong to the thread they serve
        model = await queue.run(lambda: build_model(settings, warm))
        app.state.metrics.describe(
            model=model.name, weights=model.weights, profile=settings.profile, device=model.device
        )

    async def unready() -> str | None:
        try:
            await asyncio.to_thread(store.check)
        except StorageError as error:
            return str(error)
        return None

    async def close() -> None:
        queue.close()
        evaluations.close()
        store.close()

    app = create_service(
        "cloud",
        "Runs the heads, keeps data sets and runs, and computes COCO metrics.",
        settings,
        advice="Open a run with POST /v1/runs and read it at /v1/runs/ID/metrics. Pictures go to the edge.",
        load=load,
        unready=unready,
        network=lambda: None if model is None else Network(f"{model.name} {model.weights}", model.spec),
        close=close,
        refusals=(409, 411, 507),
        small=("/v1/runs",),
    )

    @app.exception_handler(DBAPIError)
    async def storage(request: Request, error: DBAPIError) -> JSONResponse:
        """Such as a full disk, or a database that another program holds."""
        return problem(StorageError.status, StorageError.title, f"the database: {error.orig}", request.url.path)

    def loaded() -> SplitModel:
        if model is None:
            raise NotReadyError("the model is still loading")
        return model

    @app.post(
        "/v1/detect",
        summary="Detect the objects of a frame",
        openapi_extra=FRAME_BODY,
        response_model_exclude_unset=True,
    )
    async def detect(
        request: Request,
        run: Annotated[str | None, Query(description="collect the detections in this run")] = None,
        token: RunToken = None,
    ) -> InferenceResult:
        """Answers detections in COCO's results format, with the telemetry of the whole way.

        Behind the frame there may be a second one: the clean image's, which a distorted one is measured against.

        With `run`, the result is stored before it is answered, once per image: a repeated image answers what is
        stored.
        """
        network = loaded()
        if run is not None and role(request.scope) == "client":
            raise ForbiddenError("results of a run come from the channel, with the services' token")
        telemetry = read_header(request.headers.get(HEADER))
        bind(run=run)
        async with queue.enter():
            frame, reference, length = wire.read_with_reference(await read_frame_bytes(request, limits), limits)
            meta = frame.meta
            bind(domain=meta.domain, image=meta.image_id, condition=meta.condition and str(meta.condition))
            telemetry = msgspec.structs.replace(telemetry, bits=telemetry.bits or 8 * length)
            job = functools.partial(finish, network, frame, telemetry, reference, cache)
            async with queue.place():
                if run is None:
                    return _result(network, frame, *await queue.run(job))
                find = functools.partial(queue.run, job)
                return _result(network, frame, *await collect(store, run, token, network, frame, find))

    add_runs(app, store, evaluations, loaded)
    return app


def _result(
    model: SplitModel,
    frame: Frame,
    detections: list[Detection],
    telemetry: Telemetry,
    names: Mapping[int, str] = MappingProxyType({}),
) -> InferenceResult:
    """The answer to a frame; ``names`` are the data set's, where it has some, by category id."""
    bind(bits=telemetry.bits, detections=len(detections))
    labels = {detection["category_id"] for detection in detections}
    height, width = frame.meta.sizes.original
    return InferenceResult(
        image_id=frame.meta.image_id,
        detections=detections,
        categories={str(label): names.get(label) or model.categories[label] for label in sorted(labels)},
        bits=telemetry.bits,
        bpp=(telemetry.bits or 0) / (width * height),
        link_bits=telemetry.link_bits,
        fidelity=telemetry.fidelity,
        timings=telemetry.timings,
    )


def main() -> None:
    """Serve the cloud."""
    serve("cloud", CloudSettings, create_app)
