"""The ``http`` engine: sends every picture through running services."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

from bench.client import Client
from bench.errors import BenchError
from bench.sweep.engine import Identity, Outcome, Task
from cloud.store import Result
from shared.conditions import Condition


class HttpEngine:
    """One inference at a time through the edge's REST endpoint, so that timings are those of an idle deployment.

    Args:
        client: of the edge.
        conditions: by index.
        fidelity: have it measured.
        example: a picture file's bytes, to ask the edge which network it runs.
    """

    def __init__(self, client: Client, conditions: Sequence[Condition], fidelity: bool, example: bytes) -> None:
        self._client = client
        self._conditions = conditions
        self._fidelity = fidelity
        meta = client.features(example, mode="image").meta
        self._identity = Identity(meta.model, meta.weights)

    @property
    def identity(self) -> Identity:
        """Which network the edge runs; the cloud refuses frames of any other."""
        return self._identity

    def run(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """See :class:`bench.sweep.engine.Engine`."""
        for task in tasks:
            data = task.picture.read_bytes()
            wanted = [self._conditions[index] for index in task.wanted]
            if self._fidelity and _compares_images(wanted):
                self._client.infer(data, mode="image", condition="identity", image_id=task.image_id)
            for index, condition in zip(task.wanted, wanted, strict=True):
                yield Outcome(index, self._infer(data, condition, task.image_id))

    def _infer(self, data: bytes, condition: Condition, image_id: int) -> Result:
        try:
            answer = self._client.infer(
                data, mode=condition.domain, condition=str(condition), image_id=image_id, fidelity=self._fidelity
            )
        except BenchError as error:
            raise BenchError(f"image {image_id}: '{condition}': {error}") from None
        timings: dict[str, Any] = {name: ms for name, ms in answer["timings"].items() if name != "total"}
        return Result(
            image_id, answer["detections"], answer["bits"], answer["fidelity"], timings, answer.get("link_bits")
        )


def _compares_images(wanted: Sequence[Condition]) -> bool:
    """Whether the cloud must have seen the clean image, and will not see it before a distorted one."""
    of_images = [condition for condition in wanted if condition.domain == "image"]
    return bool(of_images) and bool(of_images[0].steps)
