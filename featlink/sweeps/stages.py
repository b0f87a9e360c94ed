"""The stages of one frame under one condition, from the picture file to what a sweep stores."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featlink.channel.codecs.base import Tools
from featlink.channel.transmit import Stream, Transmission
from featlink.cloud.finish import NetworkOutput, run_network, untouched
from featlink.dataset import MAX_PIXELS
from featlink.edge.prepare import Prepared as OfEdge
from featlink.edge.prepare import Request, prepare
from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition, Domain
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import FeatlinkError
from featlink.shared.features import FeatureMaps
from featlink.shared.lru import CacheEntry
from featlink.shared.metrics.fidelity import Compare, Remembered, compare_pyramids
from featlink.shared.models.protocol import SplitModel
from featlink.shared.store import Result
from featlink.sweeps.engine import OF_ONE_IMAGE, ItemError, ItemResult, ModelInfo


@dataclass(frozen=True)
class Prepared:
    """An image after the edge.

    Attributes:
        image_id: id in the data set.
        sent: what the edge made of it, for each domain that is wanted.
        clean: its pyramid, where distorted images are measured by it, and what it took.
        compare: what measures a pyramid's fidelity; on the CPU it looks at the clean one once for all conditions.
    """

    image_id: int
    sent: Mapping[Domain, OfEdge]
    clean: CacheEntry | None
    compare: Compare


class Stages:
    """Runs the services' own code without HTTP.

    Args:
        model: the whole network.
        conditions: by index.
        fidelity: measure it.
        tools: of the codecs.
    """

    def __init__(self, model: SplitModel, conditions: Sequence[Condition], fidelity: bool, tools: Tools) -> None:
        self._model = model
        self._conditions = conditions
        self._fidelity = fidelity
        self._tools = tools

    @property
    def identity(self) -> ModelInfo:
        """Which network it runs."""
        model = self._model
        return ModelInfo(model.name, model.weights, tuple(model.categories), model.device.partition(":")[0])

    def coded(self, wanted: Sequence[int]) -> tuple[list[int], list[int]]:
        """Of these conditions, the ones with a codec and the others. Codecs are slow, and mostly single-threaded."""
        coded = [i for i in wanted if any(step.kind == "codec" for step in chain(self._conditions[i]))]
        return coded, [i for i in wanted if i not in coded]

    def prepare(self, image_id: int, data: bytes, wanted: Sequence[int]) -> Prepared | ItemError:
        """The edge's work for all conditions.

        Args:
            image_id: id in the data set.
            data: the picture file's bytes.
            wanted: indices of the conditions.
        """
        needed = {self._conditions[index].domain for index in wanted}
        clean: CacheEntry | None = None
        try:
            sent = {domain: self._prepared(data, domain, image_id) for domain in needed}
            if "image" in needed and self._fidelity:
                clean = _entry(sent.get("feature") or self._prepared(data, "feature", image_id))
        except OF_ONE_IMAGE as error:
            return ItemError(image_id, tuple(wanted), str(error))
        compare = self._model.comparison()
        if compare is compare_pyramids:
            compare = functools.partial(compare_pyramids, look=Remembered())
        return Prepared(image_id, sent, clean, compare)

    def _prepared(self, data: bytes, domain: Domain, image_id: int) -> OfEdge:
        return prepare(self._model, Request(data, domain, image_id=image_id), max_pixels=MAX_PIXELS)

    def open(self, index: int, still: bool) -> Sender:
        """The channel under one condition, for the frames of one clip, or for a still."""
        return Sender(self._conditions[index], index, self._fidelity, self._tools, still)

    def detect(self, prepared: Prepared, index: int, sent: Transmission) -> Callable[[], ItemResult]:
        """The cloud's work for one condition.

        Returns:
            What is left to do when the network has run.
        """
        frame, clean = sent.frame, prepared.clean
        known = clean if frame.meta.domain == "image" and untouched(frame) else None
        output = run_network(self._model, frame, sent.telemetry, known)
        return functools.partial(_result, prepared, index, sent, output)


Sent = tuple[Prepared, Transmission]


class Sender:
    """The channel's work for one clip under one condition: a stream.

    Threads may push; each waits until it is its frame's turn.

    Attributes:
        run: index of the condition's run.
        failed: why nothing else will come of the clip; None as long as all is well.

    Args:
        condition: what to send through.
        index: its run.
        fidelity: measure it.
        tools: of the codecs.
        still: the clip is a still.
    """

    def __init__(self, condition: Condition, index: int, fidelity: bool, tools: Tools, still: bool) -> None:
        self.run = index
        self._condition = condition
        self._stream = Stream(condition, fidelity, tools, still=still)
        self._within: deque[Prepared] = deque()
        self.failed: str | None = None
        self._turn = 0
        self._turns = threading.Condition()

    def end(self) -> None:
        """End the stream, whatever is still in it."""
        self._stream.__exit__(None, None, None)

    def push(self, number: int, frame: Prepared | ItemError, last: bool) -> list[Sent | ItemError]:
        """Send a frame; of a stream that holds pictures back, earlier ones come out.

        Args:
            number: its place in the clip, from 0.
            frame: as the edge left it, or why it could not, which is told already.
            last: of the clip: all that is left comes out.

        Returns:
            Frames with what left the channel; once something fails, the failure of every frame that is not out yet.

        Raises:
            CommandError: the condition fails, whatever the picture.
        """
        with self._turns:
            self._turns.wait_for(lambda: self._turn == number)
        try:
            return self._push(frame, last)
        finally:
            with self._turns:
                self._turn += 1
                self._turns.notify_all()

    def _push(self, frame: Prepared | ItemError, last: bool) -> list[Sent | ItemError]:
        if self.failed is not None:
            return [ItemError(frame.image_id, (self.run,), self.failed)]
        if isinstance(frame, ItemError):
            return self._fail(frame)
        self._within.append(dataclasses.replace(frame, sent={}))  # a pyramid is large, and coders hold many frames
        sent = frame.sent[self._condition.domain]
        try:
            out = self._stream.push(sent.frame, sent.telemetry, frame.compare)
            out += self._stream.close() if last else []
        except OF_ONE_IMAGE as error:
            self._within.pop()
            failure = ItemError(frame.image_id, (self.run,), str(error))
            return [*self._fail(failure), failure]
        except FeatlinkError as error:
            raise CommandError(f"'{self._condition}': {error}") from None
        return [(self._within.popleft(), one) for one in out]

    def _fail(self, failure: ItemError) -> list[Sent | ItemError]:
        self.end()
        self.failed = failure.of_clip
        lost, self._within = self._within, deque()
        return [ItemError(one.image_id, (self.run,), self.failed) for one in lost]


def _result(prepared: Prepared, index: int, sent: Transmission, output: NetworkOutput) -> ItemResult:
    clean = None if prepared.clean is None else prepared.clean.pyramid
    found, telemetry = output.measured(clean, prepared.compare)
    result = Result(
        prepared.image_id,
        found,
        telemetry.bits or 0,
        telemetry.fidelity,
        telemetry.timings,
        key=sent.key,
        held=sent.held,
    )
    return ItemResult(index, result)


def _entry(prepared: OfEdge) -> CacheEntry:
    levels = {tensor.name: tensor.data for tensor in prepared.frame.tensors}
    pyramid = FeatureMaps(levels, prepared.frame.meta.sizes)  # type: ignore[arg-type]
    return CacheEntry(pyramid, prepared.telemetry.timings["backbone"])
