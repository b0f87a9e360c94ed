"""The ``local`` engine: edge, channel and cloud as functions in this process."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import cv2

from channel.apply import Transmission, apply
from channel.codecs.base import Tools
from cloud import image_fidelity
from cloud.coco_results import to_coco
from cloud.detect import detect
from cloud.store import Result
from edge.pipeline import EdgePipeline, EdgeResult, Request
from featlink.dataset import MAX_PIXELS
from featlink.errors import CommandError
from featlink.sweeps.ahead import work_ahead, work_behind
from featlink.sweeps.engine import OF_ONE_IMAGE, Failure, Identity, Outcome, Task, read_picture
from shared.conditions.language import Condition, Domain
from shared.conditions.registry import chain
from shared.detector.config import ModelConfig
from shared.detector.detections import Detections
from shared.detector.split import SplitModel, build
from shared.errors import FeatlinkError
from shared.frames.cache import PyramidCache
from shared.frames.pyramid import Pyramid
from shared.frames.report import Report
from shared.timing import timed

_DEPTH = 2


class LocalEngine:
    """Runs the services' own code without HTTP.

    Distorting, coding and measuring features goes on in other threads while this one runs the network; codecs, which
    are slow and mostly single-threaded, in one of their own; and what follows the network in another. With one thread
    to use, nothing overlaps. Results do not depend on it, but timings do: stages that overlap take each other's time.

    Args:
        model: the whole network.
        conditions: by index.
        fidelity: measure it.
        threads: cores to use; with more than one, work ahead of the heads.
    """

    def __init__(self, model: SplitModel, conditions: Sequence[Condition], fidelity: bool, threads: int) -> None:
        self._model = model
        self._conditions = conditions
        self._fidelity = fidelity
        self._tools = Tools(threads=threads)
        self._depth = _DEPTH if threads > 1 else 0
        self._pipeline = EdgePipeline(model, PyramidCache(0), MAX_PIXELS)

    @property
    def identity(self) -> Identity:
        """Which network it runs."""
        return Identity(self._model.name, self._model.weights, tuple(self._model.categories))

    def run(self, tasks: Iterable[Task]) -> Generator[Outcome | Failure, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        for task in tasks:
            data = read_picture(task)
            if isinstance(data, Failure):
                yield data
            else:
                yield from self.image(task.image_id, data, task.wanted)

    def image(self, image_id: int, data: bytes, wanted: Sequence[int]) -> Iterator[Outcome | Failure]:
        """Compute one image under some conditions.

        Args:
            image_id: id in the data set.
            data: the picture file's bytes.
            wanted: indices of the conditions.

        Raises:
            CommandError: a condition fails, whatever the picture.
        """
        try:
            yield from self._image(image_id, data, wanted)
        except FeatlinkError as error:
            raise CommandError(f"image {image_id}: {error}") from None

    def _image(self, image_id: int, data: bytes, wanted: Sequence[int]) -> Iterator[Outcome | Failure]:
        needed = {self._conditions[index].domain for index in wanted}
        prepared: dict[Domain, EdgeResult] = {}
        clean: Pyramid | None = None
        try:
            for domain in needed:
                prepared[domain] = self._pipeline(Request(data, domain, image_id=image_id))
            if "image" in needed and self._fidelity:
                clean = self._clean(prepared.get("feature") or self._pipeline(Request(data, image_id=image_id)))
        except OF_ONE_IMAGE as error:
            yield Failure(image_id, tuple(wanted), str(error))
            return
        coded = [index for index in wanted if self._is_coded(index)]
        lanes = [
            [functools.partial(self._send, prepared[self._conditions[index].domain], index, image_id) for index in lane]
            for lane in (coded, [index for index in wanted if index not in coded])
        ]
        # Closed here, not when it is collected: an error's traceback may keep it, and its waiting threads, to the end.
        with contextlib.closing(work_ahead(lanes, self._depth)) as received:
            yield from work_behind(self._detected(received, image_id, clean), self._depth)

    def _detected(
        self, received: Iterator[tuple[int, Transmission] | Failure], image_id: int, clean: Pyramid | None
    ) -> Iterator[Callable[[], Outcome | Failure]]:
        """Runs the network on each frame; yields what is left to do for it."""
        for one in received:
            if isinstance(one, Failure):
                yield functools.partial(_told, one)
                continue
            index, sent = one
            detections, pyramid, report = detect(self._model, sent.frame, sent.report)
            measure = functools.partial(image_fidelity.measure, sent.frame, pyramid, report, clean)
            yield functools.partial(_finish, index, image_id, detections, measure)
            del one, sent, pyramid, detections, measure  # their memory is wanted while the next is waited for

    def _send(self, prepared: EdgeResult, index: int, image_id: int) -> tuple[int, Transmission] | Failure:
        condition = self._conditions[index]
        try:
            return index, apply(prepared.frame, condition, prepared.report, self._fidelity, self._tools)
        except OF_ONE_IMAGE as error:
            return Failure(image_id, (index,), str(error))
        except FeatlinkError as error:
            raise CommandError(f"'{condition}': {error}") from None

    def _is_coded(self, index: int) -> bool:
        return any(step.kind == "codec" for step in chain(self._conditions[index]))

    @staticmethod
    def _clean(prepared: EdgeResult) -> Pyramid:
        levels = {tensor.name: tensor.data for tensor in prepared.frame.tensors}
        return Pyramid(levels, prepared.frame.meta.sizes)  # type: ignore[arg-type]


def _told(failure: Failure) -> Failure:
    return failure


def _finish(index: int, image_id: int, detections: Detections, measure: Callable[[], Report]) -> Outcome:
    report = measure()
    results, encode_ms = timed(functools.partial(to_coco, detections, image_id))
    report = report.with_timings(encode=encode_ms)
    return Outcome(index, Result(image_id, results, report.bits or 0, report.fidelity, report.timings))


def build_local(config: ModelConfig, conditions: Sequence[Condition], fidelity: bool) -> LocalEngine:
    """Load the model and make the engine; ``config.threads`` bounds all of its threads, 0 takes every core.

    Raises:
        ModelError: the weights cannot be had.
    """
    threads = config.threads or os.cpu_count() or 1
    cv2.setNumThreads(threads)
    return LocalEngine(build(config), conditions, fidelity, threads)
