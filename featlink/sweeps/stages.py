"""The stages of one frame under one condition, from the picture file to what a sweep stores."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
from featlink.shared.frames import wire
from featlink.shared.lru import CacheEntry
from featlink.shared.metrics.fidelity import Compare, Remembered, compare_pyramids
from featlink.shared.models.protocol import SplitModel
from featlink.shared.store import Result
from featlink.sweeps.engine import OF_ONE_IMAGE, ItemError, ItemResult, ModelInfo

Recorded = Callable[[int, bytes, OfEdge], wire.Frame]
"""From an image's id, its file's bytes and what the edge made of it here to the features that a device made of it."""


@dataclass(frozen=True)
class Prepared:
    """An image after the edge.

    Attributes:
        image_id: id in the data set.
        sent: what the edge made of it, for each domain that is wanted.
        clean: its pyramid, where images or a device's features are measured by it, and what it took.
        compare: what measures a pyramid's fidelity; on the CPU it looks at the clean one once for all conditions.
        recorded: what a device made of it, which then is what crosses the link in the feature domain.
    """

    image_id: int
    sent: Mapping[Domain, OfEdge]
    clean: CacheEntry | None
    compare: Compare
    recorded: OfEdge | None = None


class Stages:
    """Runs the services' own code without HTTP.

    Args:
        model: the whole network.
        conditions: by index.
        fidelity: measure it.
        tools: of the codecs.
        recorded: features that a device made, which every condition with a step takes in the place of the network's
            own; fidelity is to the network's own all the same.
    """

    def __init__(
        self,
        model: SplitModel,
        conditions: Sequence[Condition],
        fidelity: bool,
        tools: Tools,
        recorded: Recorded | None = None,
    ) -> None:
        self._model = model
        self._conditions = conditions
        self._fidelity = fidelity
        self._tools = tools
        self._recorded = recorded

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
            recorded = self._of_device(image_id, data, sent.get("feature"))
            if self._fidelity and ("image" in needed or recorded):
                clean = _entry(sent.get("feature") or self._prepared(data, "feature", image_id))
        except OF_ONE_IMAGE as error:
            return ItemError(image_id, tuple(wanted), str(error))
        compare = self._model.comparison()
        if compare is compare_pyramids:
            compare = functools.partial(compare_pyramids, look=Remembered())
        return Prepared(image_id, sent, clean, compare, recorded)

    def _of_device(self, image_id: int, data: bytes, own: OfEdge | None) -> OfEdge | None:
        if self._recorded is None or own is None:
            return None
        frame = self._recorded(image_id, data, own)
        return replace(own, frame=replace(frame, meta=replace(frame.meta, image_id=image_id, key=own.frame.meta.key)))

    def _takes_recorded(self, index: int) -> bool:
        condition = self._conditions[index]
        return self._recorded is not None and condition.domain == "feature" and bool(chain(condition))

    def _prepared(self, data: bytes, domain: Domain, image_id: int) -> OfEdge:
        return prepare(self._model, Request(data, domain, image_id=image_id), max_pixels=MAX_PIXELS)

    def open(self, index: int, still: bool) -> Sender:
        """The channel under one condition, for the frames of one clip, or for a still."""
        recorded = self._takes_recorded(index)
        return Sender(self._conditions[index], index, self._fidelity and not recorded, self._tools, still, recorded)

    def detect(self, prepared: Prepared, index: int, sent: Transmission) -> Callable[[], ItemResult]:
        """The cloud's work for one condition.

        Returns:
            What is left to do when the network has run.
        """
        frame, clean = sent.frame, prepared.clean
        known = clean if frame.meta.domain == "image" and untouched(frame) else None
        output = run_network(self._model, frame, sent.telemetry, known)
        measured = clean if frame.meta.domain == "image" or self._takes_recorded(index) else None
        return functools.partial(_result, prepared, index, sent, output, measured)


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
        recorded: send what a device made.
    """

    def __init__(
        self, condition: Condition, index: int, fidelity: bool, tools: Tools, still: bool, recorded: bool = False
    ) -> None:
        self.run = index
        self._condition = condition
        self._of_device = recorded
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
        sent = frame.recorded if self._of_device and frame.recorded else frame.sent[self._condition.domain]
        # A pyramid is large, and coders hold many frames.
        self._within.append(replace(frame, sent={}, recorded=None))
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


def _result(
    prepared: Prepared, index: int, sent: Transmission, output: NetworkOutput, clean: CacheEntry | None
) -> ItemResult:
    found, telemetry = output.measured(None if clean is None else clean.pyramid, prepared.compare)
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
