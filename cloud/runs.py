"""The cloud's data sets and runs over HTTP: store, collect, evaluate."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from featlink.shared.conditions import language
from featlink.shared.conditions.language import Condition, Domain
from featlink.shared.errors import ConflictError, NotFoundError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.categories import match
from featlink.shared.frames.wire import Frame
from featlink.shared.result import Detection, Telemetry
from featlink.shared.service.access import RUN_TOKEN, ForbiddenError, digest
from featlink.shared.service.admission import RequestQueue
from featlink.shared.store import Dataset, Result, Run, Store
from featlink.shared.store.summary import run_metrics

if TYPE_CHECKING:
    from featlink.shared.models.protocol import SplitModel

log = structlog.get_logger()

_COCO_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


class NewRun(BaseModel):
    """A run to open."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dataset: str = Field(description="name of a stored data set")
    condition: str | dict[str, Any] = Field("identity", description="text or JSON form", examples=["quantize:bits=4"])
    domain: Domain | None = Field(None, description="default: the condition's")
    name: str = Field("", max_length=1000, description="a note")
    runtime: str = Field(
        "",
        pattern=r"^(onnx-[a-z0-9]+)?$",
        description="of an exported edge whose frames it collects; default: frames of a Featlink edge",
        examples=["onnx-int8"],
    )

    def parsed(self) -> Condition:
        """Its condition.

        Raises:
            ConditionError: it cannot be read.
            ConflictError: it is for another domain than the run.
        """
        if isinstance(self.condition, str):
            condition = language.parse(self.condition, self.domain)
        else:
            condition = language.from_fields({**({"domain": self.domain} if self.domain else {}), **self.condition})
        if self.domain not in (None, condition.domain):
            raise ConflictError(f"the run's domain is {self.domain}, its condition's is {condition.domain}")
        return condition


@dataclass(frozen=True)
class StoredDataset(Dataset):
    """A data set that was just stored.

    Attributes:
        repairs: what had to be mended in it.
    """

    repairs: str


@dataclass(frozen=True)
class OpenedRun(Run):
    """A run that was just opened.

    Attributes:
        token: whoever adds results shows it.
        unknown_categories: of the data set, those that the model has no label for.
    """

    token: str
    unknown_categories: list[str]


def add_runs(app: FastAPI, store: Store, evaluations: RequestQueue, loaded: Callable[[], SplitModel]) -> None:
    """Give a service the endpoints of data sets and runs.

    Args:
        app: the service.
        store: that keeps them.
        evaluations: queue of what takes time.
        loaded: the cloud's network.
    """

    @app.get("/v1/datasets", summary="The stored data sets")
    async def datasets() -> list[Dataset]:
        return await asyncio.to_thread(store.datasets)

    @app.put("/v1/datasets/{name}", summary="Store a COCO ground truth", openapi_extra=_COCO_BODY)
    async def put_dataset(name: str, request: Request) -> StoredDataset:
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
        return StoredDataset(stored.name, stored.digest, stored.images, stored.created, repairs)

    @app.get("/v1/datasets/{name}", summary="A data set's name, digest and size")
    async def get_dataset(name: str) -> Dataset:
        return await asyncio.to_thread(store.dataset, name)

    @app.get("/v1/datasets/{name}/ground-truth", summary="A data set's COCO ground truth", response_class=JSONResponse)
    async def get_ground_truth(name: str) -> StreamingResponse:
        pieces = await asyncio.to_thread(store.ground_truth_json, name)
        return StreamingResponse(pieces, media_type="application/json")

    @app.delete("/v1/datasets/{name}", status_code=204, summary="Delete a data set that no run uses")
    async def delete_dataset(name: str) -> None:
        await asyncio.to_thread(store.delete_dataset, name)

    @app.post("/v1/runs", status_code=201, summary="Open a run: a data set × a condition")
    async def create_run(new: NewRun) -> OpenedRun:
        """Detections are collected under the data set's category ids, matched to the model's labels by name.

        Whoever adds results shows `token`, which is answered this once, in the header `featlink-run-token`.
        """
        condition = new.parsed()
        network = loaded()
        labels = match(await asyncio.to_thread(store.categories, new.dataset), network.categories)
        token = secrets.token_urlsafe(24)
        run = await asyncio.to_thread(
            lambda: store.create_run(
                new.dataset,
                condition=str(condition),
                domain=condition.domain,
                model=f"{_plain(network.name)}+{new.runtime}" if new.runtime else network.name,
                weights=network.weights,
                name=new.name,
                token_digest=digest(token),
            )
        )
        unknown = [one.name or str(one.id) for one in labels.unknown]
        return OpenedRun(**asdict(run), token=token, unknown_categories=unknown)

    @app.get("/v1/runs", summary="Runs, the newest first")
    async def runs(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100, offset: Annotated[int, Query(ge=0, lt=2**63)] = 0
    ) -> list[Run]:
        return await asyncio.to_thread(store.runs, limit, offset)

    @app.get("/v1/runs/{run_id}", summary="A run and how far it is")
    async def get_run(run_id: str) -> Run:
        return await asyncio.to_thread(store.run, run_id)

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


async def collect(
    store: Store,
    run_id: str,
    token: str | None,
    network: SplitModel,
    frame: Frame,
    find: Callable[[], Awaitable[tuple[list[Detection], Telemetry]]],
) -> tuple[list[Detection], Telemetry, Mapping[int, str]]:
    """A frame's result in a run: what is stored, or else what ``find`` finds, which is then stored.

    Args:
        store: of the run.
        run_id: the run.
        token: the run's, as its sender has it.
        network: which finds.
        frame: an image of the run's data set.
        find: detects.

    Returns:
        Detections under the data set's category ids; the telemetry; the data set's names of its categories.

    Raises:
        ForbiddenError: the token is another's.
        NotFoundError: no such run, or its data set has no such image.
        ConflictError: the frame came under another condition or from another network than the run's, or its picture
            is not of the size that the data set says.
    """
    image_id = frame.meta.image_id
    if image_id is None:
        raise NotFoundError("an image that is collected in a run needs its image_id")
    await asyncio.to_thread(_check_token, store, run_id, token)
    result = await asyncio.to_thread(_stored, store, run_id, image_id, frame)
    categories = await asyncio.to_thread(lambda: store.categories(store.run(run_id).dataset))
    labels = match(categories, network.categories)
    if result is None:
        found, telemetry = await find()
        fresh = Result(
            image_id,
            labels.apply(found),
            telemetry.bits or 0,
            telemetry.fidelity,
            telemetry.timings,
            telemetry.link_bits,
        )
        result = (await asyncio.to_thread(store.add_result, run_id, fresh))[0]
    telemetry = Telemetry(dict(result.timings), result.bits, dict(result.fidelity), result.link_bits)
    return result.detections, telemetry, {one.id: one.name for one in categories if one.name}


def _plain(name: str) -> str:
    """A network's name without its arithmetic."""
    return name.partition("+")[0]


def _check_token(store: Store, run_id: str, token: str | None) -> None:
    wanted = store.token_digest(run_id)
    if wanted is not None and not hmac.compare_digest(wanted, digest(token or "")):
        raise ForbiddenError(f"results enter run {run_id} with its token alone, in the header {RUN_TOKEN}")


def _stored(store: Store, run_id: str, image_id: int, frame: Frame) -> Result | None:
    """The result that the run already has for the image, if the frame can be one of the run's."""
    run, meta = store.run(run_id), frame.meta
    condition = meta.condition or Condition(domain=meta.domain)
    if condition != language.parse(run.condition):
        raise ConflictError(f"run {run_id} is for '{run.condition}', the frame came under '{condition}'")
    if (run.model, run.weights) != (meta.model, meta.weights):
        raise ConflictError(
            f"run {run_id} is of {run.model} with weights {run.weights}, the frame of {meta.model} with {meta.weights}"
        )
    annotated, sent = store.image_size(run.dataset, image_id), meta.sizes.original
    if annotated != sent:
        raise ConflictError(
            f"image {image_id} of data set {run.dataset!r} has {annotated[1]}×{annotated[0]} pixels, "
            f"the picture sent {sent[1]}×{sent[0]}"
        )
    return store.find_result(run_id, image_id)


def _json_array(arrays: Iterator[bytes]) -> Iterator[bytes]:
    """One JSON array of the elements of several, none of them empty."""
    start = b"["
    for array in arrays:
        yield start + array[1:-1]
        start = b","
    yield b"]" if start == b"," else b"[]"
