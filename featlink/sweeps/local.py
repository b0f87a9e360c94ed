"""The ``local`` engine: edge, channel and cloud as functions in this process."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import cv2
import torch

from featlink.channel.codecs.base import Tools
from featlink.channel.transmit import Transmission
from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FeatlinkError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.sweeps.ahead import work_ahead, work_behind
from featlink.sweeps.engine import Failure, Identity, Outcome, Task, read_picture
from featlink.sweeps.gpu import GpuEngine
from featlink.sweeps.stages import Prepared, Stages

_DEPTH = 2
_CODING = 2
"""Conditions with a codec that are worked on at a time: one encoder after the other would be done last."""


class LocalEngine:
    """Runs the services' own code without HTTP, the network on the CPU.

    Distorting, coding and measuring features goes on in other threads while this one runs the network; codecs, which
    are slow and mostly single-threaded, in two of their own; and what follows the network in another. With one thread
    to use, nothing overlaps. Results do not depend on it, but timings do: stages that overlap take each other's time.

    Args:
        model: the whole network.
        conditions: by index.
        fidelity: measure it.
        threads: cores to use; with more than one, work ahead of the heads.
    """

    def __init__(self, model: SplitModel, conditions: Sequence[Condition], fidelity: bool, threads: int) -> None:
        self._stages = Stages(model, conditions, fidelity, Tools(threads=threads))
        self._depth = _DEPTH if threads > 1 else 0

    @property
    def identity(self) -> Identity:
        """Which network it runs."""
        return self._stages.identity

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
        prepared = self._stages.prepare(image_id, data, wanted)
        if isinstance(prepared, Failure):
            yield prepared
            return
        lanes = [
            [functools.partial(self._send, prepared, index) for index in lane] for lane in self._stages.coded(wanted)
        ]
        # Closed here, not when it is collected: an error's traceback may keep it, and its waiting threads, to the end.
        with contextlib.closing(work_ahead(lanes, self._depth, (_CODING, 1))) as received:
            yield from work_behind(self._detected(received, prepared), self._depth)

    def _send(self, prepared: Prepared, index: int) -> tuple[int, Transmission | Failure]:
        return index, self._stages.send(prepared, index)

    def _detected(
        self, received: Iterator[tuple[int, Transmission | Failure]], prepared: Prepared
    ) -> Iterator[Callable[[], Outcome | Failure]]:
        """Runs the network on each frame; yields what is left to do for it."""
        for index, sent in received:
            if isinstance(sent, Failure):
                yield functools.partial(_told, sent)
            else:
                yield self._stages.detect(prepared, index, sent)
            del sent  # its memory is wanted while the next is waited for


def _told(failure: Failure) -> Failure:
    return failure


def build_local(config: ModelConfig, conditions: Sequence[Condition], fidelity: bool) -> LocalEngine | GpuEngine:
    """Load the model and make the engine; ``config.threads`` bounds all of its threads, 0 takes every core.

    Raises:
        ModelError: the weights cannot be had.
    """
    threads = config.threads or os.cpu_count() or 1
    model = build(config)
    if model.device != "cpu":
        torch.set_num_threads(1)  # the engine itself takes a thread a core
        cv2.setNumThreads(1)
        return GpuEngine(model, conditions, fidelity, threads)
    cv2.setNumThreads(threads)
    return LocalEngine(model, conditions, fidelity, threads)
