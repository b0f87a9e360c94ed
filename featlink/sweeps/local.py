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
from typing import Generic, TypeVar

import cv2
import torch

from featlink.channel.codecs.base import Tools
from featlink.channel.transmit import Transmission
from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FeatlinkError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.registry import build
from featlink.sweeps.engine import ItemError, ItemResult, ModelInfo, WorkItem
from featlink.sweeps.stages import Prepared, Stages

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
            jobs = self._each_condition(items)
            with contextlib.closing(prefetch(Lane(jobs, self._threads, 2 * self._threads))) as results:
                yield from results
            return
        for item in items:
            try:
                yield from self._one_picture(item)
            except FeatlinkError as error:
                raise CommandError(f"image {item.image_id}: {error}") from None

    def _each_condition(self, items: Iterable[WorkItem]) -> Iterator[Callable[[], Computed]]:
        for item in items:
            prepared = self._prepare(item)
            if isinstance(prepared, ItemError):
                yield functools.partial(_same, prepared)
                continue
            for run in itertools.chain(*self._stages.coded(item.runs)):
                yield functools.partial(self._one_condition, prepared, run)

    def _one_condition(self, prepared: Prepared, run: int) -> Computed:
        try:
            sent = self._stages.send(prepared, run)
            return sent if isinstance(sent, ItemError) else self._stages.detect(prepared, run, sent)()
        except FeatlinkError as error:
            raise CommandError(f"image {prepared.image_id}: {error}") from None

    def _one_picture(self, item: WorkItem) -> Iterator[Computed]:
        prepared = self._prepare(item)
        if isinstance(prepared, ItemError):
            yield prepared
            return
        coded, others = (
            (functools.partial(self._send, prepared, run) for run in runs) for runs in self._stages.coded(item.runs)
        )
        if self._threads == 1:
            sent = (job() for job in itertools.chain(coded, others))
            yield from (finish() for finish in self._detected(prepared, sent))
            return
        # Closed here, not when it is collected: an error's traceback may keep it, and its threads, to the end.
        with (
            contextlib.closing(prefetch(Lane(coded, _CODING, _AHEAD), Lane(others, 1, _AHEAD))) as received,
            contextlib.closing(prefetch(Lane(self._detected(prepared, received), 1, _AHEAD))) as results,
        ):
            yield from results

    def _prepare(self, item: WorkItem) -> Prepared | ItemError:
        data = item.read()
        return data if isinstance(data, ItemError) else self._stages.prepare(item.image_id, data, item.runs)

    def _send(self, prepared: Prepared, run: int) -> tuple[int, Transmission | ItemError]:
        return run, self._stages.send(prepared, run)

    def _detected(
        self, prepared: Prepared, received: Iterable[tuple[int, Transmission | ItemError]]
    ) -> Iterator[Callable[[], Computed]]:
        """Runs the network on each frame; yields what is left to do for it."""
        for run, sent in received:
            if isinstance(sent, ItemError):
                yield functools.partial(_same, sent)
            else:
                yield self._stages.detect(prepared, run, sent)
            del sent  # its memory is wanted while the next is waited for


def _same(error: ItemError) -> ItemError:
    return error


def build_local(
    config: ModelConfig, conditions: Sequence[Condition], fidelity: bool, tools: Tools | None = None
) -> LocalEngine:
    """Load the model and make the engine; ``config.threads`` bounds all of its threads, 0 takes every core.

    Args:
        config: the network.
        conditions: by index.
        fidelity: measure it.
        tools: the codecs' programs; default: those of the environment.

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
    return LocalEngine(Stages(model, conditions, fidelity, tools), threads, on_gpu)
