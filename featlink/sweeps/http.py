"""The ``http`` engine: sends every picture through running services."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

from cloud.store import Result
from featlink.client import Client
from featlink.errors import CommandError
from featlink.sweeps.engine import Identity, Outcome, Task
from shared.conditions.language import Condition
from shared.frames.pyramid import LEVELS

_SIMILARITIES = ("ssim_f", "ssim_i", "spearman_f", "spearman_i")
"""Fidelity metrics that are 1 where nothing has changed."""


class HttpEngine:
    """One inference at a time through the edge's REST endpoint, so that timings are those of an idle deployment.

    Args:
        client: of the edge.
        conditions: by index.
        fidelity: have it measured.
        example: a picture file's bytes, to ask the edge which network it runs.

    Raises:
        CommandError: the edge cannot be reached, or sends other levels than the other engines.
    """

    def __init__(self, client: Client, conditions: Sequence[Condition], fidelity: bool, example: bytes) -> None:
        self._client = client
        self._conditions = conditions
        self._fidelity = fidelity
        of_features = any(condition.domain == "feature" for condition in conditions)
        frame = client.features(example, domain="feature" if of_features else "image")
        if of_features and len(frame.tensors) != len(LEVELS):
            raise CommandError(
                "the edge does not send p6, as the other engines do; start it with FEATLINK_SEND_P6=true"
            )
        self._identity = Identity(frame.meta.model, frame.meta.weights)

    @property
    def identity(self) -> Identity:
        """Which network the edge runs; the cloud refuses frames of any other."""
        return self._identity

    def run(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        for task in tasks:
            data = task.picture.read_bytes()
            wanted = [self._conditions[index] for index in task.wanted]
            try:
                for index, condition in zip(task.wanted, wanted, strict=True):
                    yield Outcome(index, self._result(data, condition, task.image_id))
            except CommandError as error:
                raise CommandError(f"image {task.image_id}: {error}") from None

    def _result(self, data: bytes, condition: Condition, image_id: int) -> Result:
        answer = self._infer(data, condition, image_id)
        timings: dict[str, Any] = {name: ms for name, ms in answer["timings"].items() if name != "total"}
        return Result(
            image_id, answer["detections"], answer["bits"], answer["fidelity"], timings, answer.get("link_bits")
        )

    def _infer(self, data: bytes, condition: Condition, image_id: int) -> dict[str, Any]:
        try:
            answer = self._client.infer(
                data, domain=condition.domain, condition=str(condition), image_id=image_id, fidelity=self._fidelity
            )
        except CommandError as error:
            raise CommandError(f"'{condition}': {error}") from None
        if not condition.steps and any(answer["fidelity"].get(name) not in (None, 1) for name in _SIMILARITIES):
            raise CommandError("the deployment's link erases packets, so there is no clean condition")
        return answer
