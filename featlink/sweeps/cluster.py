"""The ``ray`` engine: images spread over workers, on this machine or on a Ray cluster."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featlink.errors import CommandError
from featlink.sweeps.engine import Failure, Identity, Outcome, Task, read_picture
from shared.conditions.language import Condition
from shared.detector.config import ModelConfig
from shared.errors import FeatlinkError

if TYPE_CHECKING:  # an optional dependency, and a slow one
    from featlink.sweeps.gpu import GpuEngine
    from featlink.sweeps.local import LocalEngine

_log = logging.getLogger(__name__)

_HOST_PORT = re.compile(r"(?:ray://)?(?P<host>.+):(?P<port>\d+)")
_REACH_S = 10
"""Seconds that a cluster has to answer in."""
_LOSSES = 3
"""Workers that one image may end before the sweep gives up on it."""
_OBJECT_STORE = 256 << 20
"""Bytes; a picture's file and its detections are all that goes through it."""


@dataclass(frozen=True)
class Cluster:
    """Where the workers run.

    Attributes:
        workers: how many, each with the model.
        address: of a Ray cluster whose nodes see the weights under the same path; None starts one here.
    """

    workers: int
    address: str | None = None


class _Worker:
    """Ray's actor: a ``local`` engine."""

    def __init__(self, config: ModelConfig, conditions: Sequence[Condition], fidelity: bool) -> None:
        self._arguments = config, conditions, fidelity
        self._engine: LocalEngine | GpuEngine | None = None

    def open(self) -> Identity:
        """Load the model. The constructor does not, because Ray wraps its errors."""
        return self._load().identity

    def image(self, image_id: int, data: bytes, wanted: Sequence[int]) -> Iterator[Outcome | Failure]:
        """See :meth:`featlink.sweeps.local.LocalEngine.image`."""
        yield from self._load().image(image_id, data, wanted)

    def _load(self) -> LocalEngine | GpuEngine:
        from featlink.sweeps.local import build_local

        if self._engine is None:
            self._engine = build_local(*self._arguments)
        return self._engine


@dataclass
class _Share:
    """What a worker is doing."""

    worker: Any
    task: Task
    missing: list[int]


class RayEngine:
    """Gives each worker one image at a time, and the unanswered work of a lost worker to another.

    Results are those of the ``local`` engine. A context manager; leaving it stops the workers.

    Args:
        config: the model; ``threads`` are each worker's, 0 shares the cluster's cores out.
        conditions: by index.
        fidelity: measure it.
        cluster: where.

    Raises:
        CommandError: Ray is not installed, cannot be reached, or has fewer cores than asked for.
        ModelError: the weights cannot be had.
    """

    def __init__(self, config: ModelConfig, conditions: Sequence[Condition], fidelity: bool, cluster: Cluster) -> None:
        self._ray = _import_ray()
        self._start(cluster, config.threads)
        try:
            cores = int(self._ray.cluster_resources().get("CPU", 0))
            threads = config.threads or max(1, cores // cluster.workers)
            if cluster.workers * threads > cores:
                raise CommandError(f"{cluster.workers} workers of {threads} threads need more than Ray's {cores} cores")
            self._arguments = replace(config, threads=threads), tuple(conditions), fidelity
            self._remote = self._ray.remote(num_cpus=threads, max_restarts=0)(_Worker)
            self._workers = [self._new_worker() for _ in range(cluster.workers)]
            identities = {self._answer(worker.open.remote()) for worker in self._workers}
            if len(identities) != 1:
                raise CommandError("the cluster's nodes have different weights under the same path")
            [self._identity] = identities
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
    def identity(self) -> Identity:
        """Which network the workers run."""
        identity: Identity = self._identity
        return identity

    def run(self, tasks: Iterable[Task]) -> Generator[Outcome | Failure, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        source = iter(tasks)
        again: deque[Task] = deque()
        losses: Counter[int] = Counter()
        idle = deque(self._workers)
        busy: dict[Any, _Share] = {}
        while True:
            while idle and (task := again.popleft() if again else next(source, None)):
                data = read_picture(task)
                if isinstance(data, Failure):
                    yield data
                    continue
                stream = self._begin(idle[0], task, data)
                busy[stream] = _Share(idle.popleft(), task, list(task.wanted))
            if not busy:
                return
            [stream], _ = self._ray.wait(list(busy), num_returns=1)
            share = busy[stream]
            try:
                outcome: Outcome | Failure = self._answer(next(stream))
            except StopIteration:
                idle.append(busy.pop(stream).worker)
            except self._ray.exceptions.RayActorError:
                del busy[stream]
                image_id, missing = share.task.image_id, tuple(share.missing)
                losses[image_id] += 1
                self._workers[self._workers.index(share.worker)] = fresh = self._new_worker()
                idle.append(fresh)
                if losses[image_id] == _LOSSES:
                    yield Failure(image_id, missing, f"ended {_LOSSES} workers")
                    continue
                _log.warning("a worker was lost; image %d goes to another", image_id)
                again.append(replace(share.task, wanted=missing))
            else:
                for index in outcome.indices if isinstance(outcome, Failure) else (outcome.index,):
                    share.missing.remove(index)
                yield outcome

    def _begin(self, worker: Any, task: Task, data: bytes) -> Any:
        method = worker.image.options(num_returns="streaming")
        return method.remote(task.image_id, data, task.wanted)

    def _new_worker(self) -> Any:
        return self._remote.remote(*self._arguments)

    def _answer(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FeatlinkError):
                raise error.cause from None
            raise

    def _start(self, cluster: Cluster, threads: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # keeps Ray from sending usage statistics
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if cluster.address is None:
            cores = max(os.cpu_count() or 1, cluster.workers * max(1, threads))
            quiet |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        if cluster.address is not None:
            _check_reachable(cluster.address)
        try:
            self._ray.init(address=cluster.address or "local", **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            hint = "; set TMPDIR to a shorter path" if "AF_UNIX" in reason else ""
            raise CommandError(f"Ray: {reason}{hint}") from None


def _check_reachable(address: str) -> None:
    """Find out in seconds whether a cluster answers; Ray itself tries for minutes."""
    match = _HOST_PORT.fullmatch(address)
    if match is None:  # such as "auto", which Ray resolves
        return
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise CommandError(f"Ray: nothing answers at {address}: {error}") from None


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise CommandError("the ray engine needs Ray: pip install 'featlink[ray]'") from None
    return ray
