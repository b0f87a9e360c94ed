"""The workers of a sweep: asked for, opened, lost, and asked for again, as nodes come and go."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from featlink.errors import CommandError
from featlink.shared.errors import FeatlinkError
from featlink.sweeps.cluster.connection import nodes_of
from featlink.sweeps.cluster.room import Need, room
from featlink.sweeps.cluster.worker import Opened, Order, Worker, deciding
from featlink.sweeps.engine import ModelInfo

_log = logging.getLogger(__name__)

_LOOK_S = 5
"""Seconds between two looks at which nodes there are."""


class Crew:
    """Workers on whatever nodes have room.

    Those that have none wait, in Ray, for a node that joins. A worker that cannot be opened, or that would compute
    something else than the others, is not asked for again.

    Args:
        ray: the module, connected.
        order: of every worker.
        need: what one takes.
        most: workers; None for as many as there is room for.
        patience_s: how long to wait for a worker when there is none.
    """

    def __init__(self, ray: Any, order: Order, need: Need, most: int | None, patience_s: float) -> None:
        self._ray = ray
        self._order = order
        self._need = need
        self._most = most
        self._patience_s = patience_s
        self._remote = ray.remote(
            num_cpus=need.threads,
            num_gpus=need.gpus,
            memory=need.memory or None,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )(Worker)
        self._opening: dict[Any, Any] = {}
        self._members: set[Any] = set()
        self._refused = 0
        self._why: Exception | None = None
        self._versions = deciding()
        self._looked = float("-inf")
        self._room = 0
        self._identity: ModelInfo | None = None
        self.idle: deque[Any] = deque()

    @property
    def identity(self) -> ModelInfo:
        """The network that every worker has, once one has been opened."""
        assert self._identity is not None
        return self._identity

    def __len__(self) -> int:
        return len(self._members)

    def top_up(self) -> None:
        """Ask for the workers that are lacking."""
        while len(self._members) + len(self._opening) < self._wanted() - self._refused:
            worker = self._remote.remote(self._order, self._ray.get)
            self._opening[worker.open.remote()] = worker

    def lose(self, worker: Any) -> None:
        """Give a worker up, whether it is gone or only does not answer."""
        self._members.discard(worker)
        self._ray.kill(worker)

    def wait(self, streams: Sequence[Any]) -> Any:
        """The stream that has something; None after a while without, or when a worker has been opened."""
        ready, _ = self._ray.wait([*streams, *self._opening], num_returns=1, timeout=_LOOK_S)
        if not ready:
            return None
        if ready[0] in self._opening:
            self._settle(ready[0])
            return None
        return ready[0]

    def wait_for_one(self) -> None:
        """Return once a worker is idle, where all are idle or opening.

        Raises:
            FeatlinkError: none can be opened, or there was no room for one for too long.
        """
        until = time.monotonic() + self._patience_s
        told = False
        while not self.idle:
            self.top_up()
            if not self._opening:
                raise _told(self._why)
            self.wait([])
            if not self.idle and not told and not room(nodes_of(self._ray), self._need):
                _log.warning("waiting for a node with room for a worker, which takes %s", _words(self._need))
                told = True
            if not self.idle and time.monotonic() > until:
                raise CommandError(
                    f"Ray: no worker could be started within {self._patience_s:.0f} s; one takes {_words(self._need)}"
                )

    def _wanted(self) -> int:
        if self._most is not None:
            return self._most
        if time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            self._room = room(nodes_of(self._ray), self._need)
        return max(1, self._room)

    def _settle(self, reference: Any) -> None:
        worker = self._opening.pop(reference)
        try:
            opened = self._ray.get(reference)
            self._check_same(opened)
        except self._ray.exceptions.RayTaskError as error:
            self._refuse(worker, error.cause if isinstance(error.cause, FeatlinkError) else error)
        except (self._ray.exceptions.RayError, CommandError) as error:
            self._refuse(worker, error)
        else:
            self._identity = opened.identity
            self._members.add(worker)
            self.idle.append(worker)

    def _refuse(self, worker: Any, why: Exception) -> None:
        self._ray.kill(worker)
        self._refused += 1
        self._why = why
        if self._members or self._opening:  # else it is the error that ends the sweep
            _log.warning("a worker cannot be used: %s", _told(why))

    def _check_same(self, opened: Opened) -> None:
        """Refuse a worker whose numbers could differ.

        Raises:
            CommandError: they could; names the first difference.
        """
        if self._identity not in (None, opened.identity):
            raise CommandError("it has another network than the others")
        for name in [*self._versions, *opened.versions]:
            here, there = (versions.get(name, "none") for versions in (self._versions, opened.versions))
            if here != there:
                raise CommandError(f"its node has {name} {there}, this one {here}")


def _told(why: Exception | None) -> FeatlinkError:
    """An error to hand on, in one line."""
    if isinstance(why, FeatlinkError):
        return why
    lines = [line for line in str(why).splitlines() if line.strip()]
    return CommandError(f"Ray: no worker can be started: {lines[-1].strip() if lines else type(why).__name__}")


def _words(need: Need) -> str:
    memory = f" and {need.memory / 1e9:g} GB" if need.memory else ""
    gpus = f", {need.gpus:g} GPUs" if need.gpus else ""
    return f"{need.threads} cores{gpus}{memory}"
