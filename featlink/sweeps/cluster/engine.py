"""Gives each worker one image at a time, and the unanswered work of a lost worker to another."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FeatlinkError
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.cluster.connection import connect, nodes_of
from featlink.sweeps.cluster.crew import Crew
from featlink.sweeps.cluster.files import pack
from featlink.sweeps.cluster.room import Need, gpus_each, most_threads, slots
from featlink.sweeps.cluster.worker import Order
from featlink.sweeps.engine import ItemError, ItemResult, ModelInfo, WorkItem

_log = logging.getLogger(__name__)

_LOSSES = 3
"""Workers that one image may end; then it is given up, and the others go on."""
_IN_VAIN = 30
"""Workers lost in a row, without a result between, that end the sweep."""


@dataclass(frozen=True)
class Cluster:
    """Where the workers run.

    Attributes:
        workers: how many at most, each with the model; None for as many as there is room for.
        address: of a Ray cluster; None starts one here.
        memory_per_worker: bytes that a worker may hold: Ray puts no more workers on a node than it has memory for, and
            one that holds more is ended; 0 for no bound but Ray's own for the node.
        patience_s: seconds to wait for a worker when there is none.
    """

    workers: int | None
    address: str | None = None
    memory_per_worker: int = 0
    patience_s: float = 600


@dataclass
class _Share:
    """What a worker is doing."""

    worker: Any
    task: WorkItem
    missing: list[int]


class RayEngine:
    """The ``ray`` engine; results are those of the ``local`` one. A context manager; leaving it stops the workers.

    Args:
        config: the model; ``threads`` are each worker's, 0 shares the cluster's cores out; ``device`` is of all, and
            ``auto`` a GPU for each where the cluster has any.
        conditions: by index.
        fidelity: measure it.
        cluster: where.

    Raises:
        CommandError: Ray is not installed, cannot be reached, or no worker can be started.
        ModelError: the weights cannot be had.
    """

    def __init__(self, config: ModelConfig, conditions: Sequence[Condition], fidelity: bool, cluster: Cluster) -> None:
        cores = max(os.cpu_count() or 1, (cluster.workers or 1) * max(1, config.threads))
        self._ray = connect(cluster.address, cores)
        try:
            nodes = nodes_of(self._ray)
            on_gpus = config.device.startswith("cuda") or (config.device == "auto" and any(node.gpus for node in nodes))
            gpus = on_gpus * gpus_each(nodes, cluster.workers)
            if cluster.address is None and not any(node.gpus for node in nodes):
                gpus = 0  # there will never be one: a worker says so
            need = Need(config.threads or 1, gpus, cluster.memory_per_worker)
            if not config.threads:
                need = replace(need, threads=most_threads(nodes, need, cluster.workers or slots(nodes, need)))
            # All on one kind of device, as numbers differ between kinds. Ray shows each worker its own GPU alone.
            config = replace(config, threads=need.threads, device="cuda" if on_gpus else "cpu")
            order = Order(config, tuple(conditions), fidelity, need.memory)
            if cluster.address is not None:
                order = replace(order, parcel=pack(_weights(config), self._ray.put))
            self._crew = Crew(self._ray, order, need, cluster.workers, cluster.patience_s)
            self._crew.wait_for_one()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers, and the cluster if it was started here."""
        self._ray.shutdown()

    @property
    def identity(self) -> ModelInfo:
        """Which network the workers run."""
        return self._crew.identity

    @property
    def workers(self) -> int:
        """How many are at work or ready for it."""
        return len(self._crew)

    def run(self, tasks: Iterable[WorkItem]) -> Generator[ItemResult | ItemError, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        source = iter(tasks)
        again: deque[WorkItem] = deque()
        losses: Counter[int] = Counter()
        in_vain = 0
        busy: dict[Any, _Share] = {}
        crew = self._crew
        while True:
            crew.top_up()
            while crew.idle and (task := again.popleft() if again else next(source, None)):
                data = task.read()
                if isinstance(data, ItemError):
                    yield data
                    continue
                share = _Share(crew.idle.popleft(), task, list(task.runs))
                busy[_begin(share, data)] = share
            if not busy:
                if not again and (task := next(source, None)) is None:
                    return
                if not again and task is not None:
                    again.append(task)
                crew.wait_for_one()
                continue
            stream = crew.wait(list(busy))
            if stream is None:
                continue
            share = busy[stream]
            try:
                outcome = self._next(stream)
            except _LostError as lost:
                del busy[stream]
                crew.lose(share.worker)
                in_vain += 1
                if in_vain >= max(_IN_VAIN, _LOSSES * len(crew)):
                    raise CommandError(f"{in_vain} workers in a row were lost without a result: {lost}") from None
                image_id, missing = share.task.image_id, tuple(share.missing)
                losses[image_id] += 1
                if losses[image_id] == _LOSSES:
                    yield ItemError(image_id, missing, f"ended {_LOSSES} workers: {lost}")
                    continue
                _log.warning("a worker was lost; image %d goes to another: %s", image_id, lost)
                again.append(replace(share.task, runs=missing))
            else:
                if outcome is None:
                    crew.idle.append(busy.pop(stream).worker)
                    continue
                in_vain = 0
                for index in outcome.runs if isinstance(outcome, ItemError) else (outcome.run,):
                    share.missing.remove(index)
                yield outcome

    def _next(self, stream: Any) -> ItemResult | ItemError | None:
        """A stream's next result; None at its end.

        Raises:
            FeatlinkError: the engine's own.
            _LostError: there will be none: the worker, its node or its memory is gone.
        """
        try:
            outcome: ItemResult | ItemError = self._ray.get(next(stream))
        except StopIteration:
            return None
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FeatlinkError):
                raise error.cause from None
            raise _LostError(repr(error.cause)) from None
        except self._ray.exceptions.RayError as error:  # the worker is gone, or a result on its node's disk
            raise _LostError(_line(error)) from None
        return outcome


class _LostError(Exception):
    """A worker that will not answer, and why."""


def _begin(share: _Share, data: bytes) -> Any:
    return share.worker.compute.options(num_returns="streaming").remote(replace(share.task, picture=data))


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _weights(config: ModelConfig) -> Any:
    from featlink.shared.models.checkpoints import weights_file  # torch takes seconds to import

    return weights_file(config.weights, config.model)
