"""What runs on the nodes: a ``local`` engine in a process of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featlink.channel.codecs.base import Tools
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import chain
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.cluster.files import Fetch, Parcel, unpack
from featlink.sweeps.engine import ItemError, ItemResult, ModelInfo, WorkItem
from featlink.sweeps.folder import featlink_version, versions

if TYPE_CHECKING:  # slow to import, and this is imported where no worker runs
    from featlink.sweeps.local import LocalEngine

_log = logging.getLogger(__name__)
_LOOK_S = 0.1
"""Seconds between two looks at the memory a worker holds."""


@dataclass(frozen=True)
class Order:
    """What a worker is for.

    Attributes:
        config: the network.
        conditions: by index.
        fidelity: measure it.
        memory: bytes that it may hold; 0 for no bound of its own.
        parcel: files that it needs; None on the sender's machine, where they are.
        tools: the codecs' programs, as the sender's environment names them.
    """

    config: ModelConfig
    conditions: tuple[Condition, ...]
    fidelity: bool
    memory: int = 0
    parcel: Parcel | None = None
    tools: Tools = field(default_factory=Tools)


@dataclass(frozen=True)
class Opened:
    """A worker that is ready.

    Attributes:
        identity: of its network.
        versions: :func:`deciding`, on its node.
    """

    identity: ModelInfo
    versions: dict[str, str]


class Worker:
    """Ray's actor. It has one image at a time.

    Args:
        order: what it is for.
        fetch: how it gets a file's content.
    """

    def __init__(self, order: Order, fetch: Fetch) -> None:
        self._order = order
        self._fetch = fetch
        self._engine: LocalEngine | None = None

    def open(self) -> Opened:
        """Get the files and load the model. The constructor does not, because Ray wraps its errors."""
        from featlink.sweeps.local import build_local

        if self._order.memory:
            threading.Thread(target=end_beyond, args=(self._order.memory,), daemon=True).start()
        for condition in self._order.conditions:
            chain(condition)  # a step that this node does not know is an error now, not in the midst of the sweep
        config = self._order.config
        path = None if self._order.parcel is None else unpack(self._order.parcel, self._fetch)
        if path is not None:
            config = replace(config, weights=path)
        self._engine = build_local(config, self._order.conditions, self._order.fidelity, self._order.tools)
        return Opened(self._engine.identity, deciding())

    def compute(self, item: WorkItem) -> Iterator[ItemResult | ItemError]:
        """See :meth:`featlink.sweeps.engine.Engine.run`; :meth:`open` comes first."""
        assert self._engine is not None
        yield from self._engine.run([item])


def deciding() -> dict[str, str]:
    """Versions of what decides results, on this machine. How a library was built, such as for a GPU, is left out."""
    found = {"featlink": featlink_version(), **versions()}
    return {name: version.partition("+")[0] for name, version in found.items() if name != "python"}


def end_beyond(memory: int) -> None:
    """End this process as soon as it holds more than so many bytes; where that cannot be known, return."""
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        try:
            held = int(Path("/proc/self/statm").read_text().split()[1]) * page
        except OSError:  # not Linux
            return
        if held > memory:
            _log.error("a worker of %.2f GB is ended: it may hold %.2f", held / 1e9, memory / 1e9)
            os._exit(1)
        time.sleep(_LOOK_S)
