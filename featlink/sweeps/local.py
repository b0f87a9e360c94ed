"""The ``local`` engine: edge, channel and cloud as functions in this process, overlapping in bounded memory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import cv2
import torch

from featlink.channel.codecs.base import Tools
from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FeatlinkError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.registry import build
from featlink.sweeps.engine import Frame, ItemError, ItemResult, ModelInfo, WorkItem
from featlink.sweeps.stages import Prepared, Recorded, Sender, Sent, Stages

T = TypeVar("T")
Computed = ItemResult | ItemError
_AHEAD = 2
_CODING = 2
"""Conditions with a codec that are worked on at a time: one encoder after the other would be done last."""


@dataclass(frozen=True)
class Lane(Generic[T]):
    """Jobs for :func:`prefetch`.

    Attributes:
        jobs: are begun in order; making one is the consumer's work, and is done when there is room for it.
        threads: that do them.
        ahead: how many may be under way, done and not yet asked for, or dealt with by the consumer.
    """

    jobs: Iterator[Callable[[], T]]
    threads: int
    ahead: int


def prefetch(*lanes: Lane[T]) -> Generator[T, None, None]:
    """Do jobs in threads while the consumer deals with earlier results; closing it ends the threads.

    Yields:
        Every job's result, as they come: of a lane with one thread, in order.

    Raises:
        Exception: what a job raised, or making it; jobs not yet begun are then left out.

    Example:
        >>> sorted(prefetch(Lane(iter([lambda: 1, lambda: 2]), 1, 2), Lane(iter([lambda: 3]), 1, 1)))
        [1, 2, 3]
    """
    pools = [ThreadPoolExecutor(lane.threads, thread_name_prefix="prefetch") for lane in lanes]
    under_way: dict[Future[T], int] = {}

    def begin(lane: int, count: int) -> None:
        for job in itertools.islice(lanes[lane].jobs, count):
            under_way[pools[lane].submit(job)] = lane
            del job  # and what it holds on to

    try:
        for lane in range(len(lanes)):
            begin(lane, lanes[lane].ahead)
        while under_way:
            done = wait(under_way, return_when=FIRST_COMPLETED).done
            in_order = deque(future for future in under_way if future in done)
            del done
            while in_order:
                future = in_order.popleft()
                lane = under_way.pop(future)
                result = future.result()
                del future  # which holds on to the result
                yield result
                del result
                begin(lane, 1)
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


class LocalEngine:
    """Runs the services' own code without HTTP.

    With the network on the CPU, the caller's thread runs it with all cores' threads, while others distort, code and
    measure: codecs, which are slow and mostly single-threaded, in two threads of their own, the rest in a third, and
    what follows the network in a fourth. With one thread to use, nothing overlaps.

    With the network on a GPU, the channel's work takes all the time: each of ``threads`` threads takes one condition
    through channel and network, and the next picture is begun while there are conditions of the last one.

    Of a clip, one frame at a time goes through all conditions, so memory does not grow with its length.

    Results do not depend on any of it, but timings do: stages that overlap take each other's time.

    Args:
        stages: the work itself.
        threads: cores to use.
        on_gpu: arrange it for a network on a GPU.
    """

    def __init__(self, stages: Stages, threads: int, on_gpu: bool = False) -> None:
        self._stages = stages
        self._threads = threads
        self._on_gpu = on_gpu

    @property
    def identity(self) -> ModelInfo:
        """Which network it runs."""
        return self._stages.identity

    def run(self, items: Iterable[WorkItem]) -> Generator[Computed, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        if self._on_gpu:
            senders: set[Sender] = set()
            jobs = self._each_condition(items, senders)
            try:
                with contextlib.closing(prefetch(Lane(jobs, self._threads, 2 * self._threads))) as results:
                    yield from itertools.chain.from_iterable(results)
            finally:
                _end(senders)
            return
        for item in items:
            try:
                yield from self._one_clip(item)
            except FeatlinkError as error:
                raise CommandError(f"{item.name}: {error}") from None

    def _opened(self, item: WorkItem) -> tuple[list[Sender], list[Sender]]:
        """The channel under each condition that is wanted: those with a codec, and the others."""
        coded, others = (
            [self._stages.open(run, still=item.clip is None) for run in runs] for runs in self._stages.coded(item.runs)
        )
        return coded, others

    def _each_condition(
        self, items: Iterable[WorkItem], senders: set[Sender]
    ) -> Iterator[Callable[[], list[Computed]]]:
        for item in items:
            opened = list(itertools.chain(*self._opened(item)))
            senders.update(opened)
            for place in _places(item):
                prepared = self._prepare(place, opened)
                if isinstance(prepared, ItemError) and prepared.runs:
                    yield functools.partial(list, [prepared])
                for sender in opened:
                    yield functools.partial(self._one_condition, item, sender, place, prepared, senders)

    def _one_condition(
        self, item: WorkItem, sender: Sender, place: Place, prepared: Prepared | ItemError, senders: set[Sender]
    ) -> list[Computed]:
        try:
            out = sender.push(place.number, prepared, place.last)
            if place.last:
                senders.discard(sender)
            return [finish() for finish in self._detected([(sender.run, out)])]
        except FeatlinkError as error:
            raise CommandError(f"{item.name}: {error}") from None

    def _one_clip(self, item: WorkItem) -> Iterator[Computed]:
        coded, others = self._opened(item)
        try:
            for place in _places(item):
                yield from self._one_frame(coded, others, place, self._prepare(place, [*coded, *others]))
        finally:
            _end([*coded, *others])

    def _one_frame(
        self, coded: Sequence[Sender], others: Sequence[Sender], place: Place, prepared: Prepared | ItemError
    ) -> Iterator[Computed]:
        if isinstance(prepared, ItemError) and prepared.runs:
            yield prepared
        first, second = (
            (functools.partial(_send, sender, place, prepared) for sender in senders) for senders in (coded, others)
        )
        if self._threads == 1:
            yield from (finish() for finish in self._detected(job() for job in itertools.chain(first, second)))
            return
        # Closed here, not when it is collected: an error's traceback may keep it, and its threads, to the end.
        with (
            contextlib.closing(prefetch(Lane(first, _CODING, _AHEAD), Lane(second, 1, _AHEAD))) as received,
            contextlib.closing(prefetch(Lane(self._detected(received), 1, _AHEAD))) as results,
        ):
            yield from results

    def _prepare(self, place: Place, senders: Iterable[Sender]) -> Prepared | ItemError:
        """The edge's work for those whose clip has not failed."""
        image_id, wanted = place.frame.image_id, [sender.run for sender in senders if sender.failed is None]
        data = place.frame.read() if wanted else "no condition wants it"
        if isinstance(data, str):
            return ItemError(image_id, tuple(sorted(wanted)), data)
        return self._stages.prepare(image_id, data, sorted(wanted))

    def _detected(self, received: Iterable[tuple[int, list[Sent | ItemError]]]) -> Iterator[Callable[[], Computed]]:
        """Runs the network on each frame; yields what is left to do for it."""
        for run, out in received:
            while out:
                match out.pop(0):
                    case ItemError() as error:
                        yield functools.partial(_same, error)
                    case prepared, sent:
                        yield self._stages.detect(prepared, run, sent)
                        del prepared, sent  # their memory is wanted while the next is waited for


class Place(NamedTuple):
    """A frame in its clip: its place from 0, and whether it is the last."""

    frame: Frame
    number: int
    last: bool


def _places(item: WorkItem) -> Iterator[Place]:
    for number, frame in enumerate(item.frames, 1):
        yield Place(frame, number - 1, number == len(item.frames))


def _send(sender: Sender, place: Place, prepared: Prepared | ItemError) -> tuple[int, list[Sent | ItemError]]:
    return sender.run, sender.push(place.number, prepared, place.last)


def _same(error: ItemError) -> ItemError:
    return error


def _end(senders: Iterable[Sender]) -> None:
    for sender in senders:
        sender.end()


def build_local(
    config: ModelConfig,
    conditions: Sequence[Condition],
    fidelity: bool,
    tools: Tools | None = None,
    recorded: Recorded | None = None,
) -> LocalEngine:
    """Load the model and make the engine; ``config.threads`` bounds all of its threads, 0 takes every core.

    Args:
        config: the network.
        conditions: by index.
        fidelity: measure it.
        tools: the codecs' programs; default: those of the environment.
        recorded: features that a device made, in the place of the network's own.

    Raises:
        ModelError: the weights cannot be had.
    """
    threads = config.threads or os.cpu_count() or 1
    model = build(config)
    tools = dataclasses.replace(tools or Tools(), threads=threads)
    on_gpu = model.device != "cpu"
    cv2.setNumThreads(1 if on_gpu else threads)
    if on_gpu:
        torch.set_num_threads(1)  # the engine itself takes a thread a core
        # A codec with few others beside it has cores to spare.
        tools = dataclasses.replace(tools, threads=max(1, threads // max(1, len(conditions))))
    return LocalEngine(Stages(model, conditions, fidelity, tools, recorded), threads, on_gpu)
