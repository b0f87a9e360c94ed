"""The ``http`` engine: sends every picture through running services."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from PIL import Image

from featlink.channel import transmit
from featlink.client import Client
from featlink.errors import CommandError, RefusalError
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import ConditionError
from featlink.shared.result import InferenceResult
from featlink.shared.store import Result
from featlink.sweeps.engine import Frame, ItemError, ItemResult, ModelInfo, WorkItem

_SIMILARITIES = ("ssim_f", "ssim_i", "spearman_f", "spearman_i")
"""Fidelity metrics that are 1 where nothing has changed."""
_OF_ONE_IMAGE = {400, 413, 415, 422, 500}
"""Statuses of answers that say something of a picture, perhaps under one condition, and nothing of the next one."""
_SIDE = 64
_STREAMS = 8
"""Open at a time; the channel's default bound is twice as many."""


class HttpEngine:
    """One inference at a time through the edge's REST endpoint, so that timings are those of an idle deployment.

    Args:
        client: of the edge.
        conditions: by index.
        fidelity: have it measured.

    Raises:
        CommandError: the edge cannot be reached, or sends other levels than the other engines.
    """

    def __init__(self, client: Client, conditions: Sequence[Condition], fidelity: bool) -> None:
        self._client = client
        self._conditions = conditions
        self._fidelity = fidelity
        of_features = any(condition.domain == "feature" for condition in conditions)
        frame = client.features(_example(), domain="feature" if of_features else "image")
        missing = set(frame.meta.features.names) - {tensor.name for tensor in frame.tensors}
        if of_features and missing:
            raise CommandError(
                f"the edge does not send {min(missing)}, as the other engines do; start it with FEATLINK_SEND_P6=true"
            )
        self._identity = ModelInfo(frame.meta.model, frame.meta.weights, *_told(client))

    @property
    def identity(self) -> ModelInfo:
        """Which network the edge runs; the cloud refuses frames of any other."""
        return self._identity

    def run(self, items: Iterable[WorkItem]) -> Generator[ItemResult | ItemError, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        for item in items:
            if item.clip is None:
                yield from (self._outcome(item.frames[0], run, self._client.infer) for run in item.runs)
            else:
                for first in range(0, len(item.runs), _STREAMS):
                    yield from self._clip(item.frames, item.runs[first : first + _STREAMS])

    def _clip(self, frames: Iterable[Frame], runs: Sequence[int]) -> Iterator[ItemResult | ItemError]:
        """Some runs' streams side by side, so that the edge runs each picture's backbone once for all of them."""
        for run in runs:
            if transmit.Stream(self._conditions[run]).delay:
                raise CommandError(f"'{self._conditions[run]}' holds pictures back; that needs --engine local or ray")
        failed: dict[int, str] = {}
        with contextlib.ExitStack() as stack:
            streams = {run: stack.enter_context(self._client.stream()) for run in runs}
            for frame, (run, stream) in itertools.product(frames, streams.items()):
                if run in failed:
                    yield ItemError(frame.image_id, (run,), failed[run])
                    continue
                outcome = self._outcome(frame, run, stream.push)
                if isinstance(outcome, ItemError):
                    failed[run] = outcome.of_clip
                yield outcome

    def _outcome(self, frame: Frame, index: int, infer: Callable[..., InferenceResult]) -> ItemResult | ItemError:
        condition, image_id, data = self._conditions[index], frame.image_id, frame.read()
        if isinstance(data, str):
            return ItemError(image_id, (index,), data)
        try:
            return ItemResult(index, self._result(data, condition, image_id, infer))
        except RefusalError as error:
            if error.status in _OF_ONE_IMAGE and error.title != ConditionError.title:
                return ItemError(image_id, (index,), str(error))
            raise CommandError(f"image {image_id}: '{condition}': {error}") from None
        except CommandError as error:
            raise CommandError(f"image {image_id}: '{condition}': {error}") from None

    def _result(
        self, data: bytes, condition: Condition, image_id: int, infer: Callable[..., InferenceResult]
    ) -> Result:
        answer = infer(
            data, domain=condition.domain, condition=str(condition), image_id=image_id, fidelity=self._fidelity
        )
        if not condition.steps and any(answer.fidelity.get(name) not in (None, 1) for name in _SIMILARITIES):
            raise CommandError("the deployment's link erases packets, so there is no clean condition")
        if answer.stream is not None and answer.stream.frame > 0 and answer.stream.restarted is not None:
            raise CommandError(f"the channel began the stream anew ({answer.stream.restarted})")
        timings = {name: ms for name, ms in answer.timings.items() if name != "total"}
        return Result(
            image_id,
            answer.detections,
            answer.bits or 0,
            answer.fidelity,
            timings,
            answer.link_bits,
            key=answer.stream is None or answer.stream.key,
            held=0,
        )


def _example() -> bytes:
    """A picture, to ask the edge for its frame."""
    file = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE)).save(file, "PNG")
    return file.getvalue()


def _told(client: Client) -> tuple[tuple[str, ...], str]:
    """The labels' names and the device."""
    try:
        model = client.model()
    except RefusalError:  # an edge of an earlier version does not tell
        return (), "cpu"
    return tuple(map(str, model["categories"])), str(model.get("device", "cpu"))
