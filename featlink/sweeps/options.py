"""What a sweep is asked to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featlink.dataset import Truth
from featlink.errors import CommandError
from featlink.shared.models.config import ModelConfig

EngineName = Literal["local", "http", "ray"]
_WORKERS_HERE = 2
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Options:
    """A sweep as asked for.

    Attributes:
        dataset: its folder.
        config: the network.
        conditions: as :func:`featlink.sweeps.plan.make_plan` takes them.
        out: the output folder.
        seeds: of conditions with random distortions.
        fidelity: measure it.
        engine: what computes.
        limit: only so many images, the first ones; None for all.
        shard: (i, n): only every n-th of those, from the i-th on, counted from 0.
        sample: only so many of the images that lack results, spread evenly over them; None for all.
        time_budget: seconds after which to stop; None for no end.
        truth: what counts as right: the annotations, or what the clean run detects.
        edge: ``http``: URL of a running deployment's edge; None starts one.
        keep_bitstreams: ``http``: folder in which services that are started here keep codecs' bitstreams.
        workers: ``ray``: how many at most; None for two here, and on a cluster for as many as it has room for.
        ray_address: ``ray``: of a cluster; None starts one here.
        worker_memory_gb: ``ray``: that a worker may hold; 0 for no bound but the node's.
    """

    dataset: Path
    config: ModelConfig
    conditions: tuple[str, ...]
    out: Path
    seeds: tuple[int, ...] = (0,)
    fidelity: bool = True
    engine: EngineName = "local"
    limit: int | None = None
    shard: tuple[int, int] = (0, 1)
    sample: int | None = None
    time_budget: float | None = None
    truth: Truth = "annotations"
    edge: str | None = None
    keep_bitstreams: Path | None = None
    workers: int | None = None
    ray_address: str | None = None
    worker_memory_gb: float = 0.0

    @property
    def ray_workers(self) -> int | None:
        """How many workers to ask for at most; None for as many as there is room for."""
        return _WORKERS_HERE if self.workers is None and self.ray_address is None else self.workers

    @property
    def how(self) -> dict[str, object]:
        """What may change from call to call, for the manifest."""
        how: dict[str, object] = {
            "name": self.engine,
            "threads": self.config.threads,
            "limit": self.limit,
            "shard": f"{self.shard[0]}/{self.shard[1]}",
        }
        if self.engine == "http":
            how["edge"] = self.edge
        if self.engine == "ray":
            how |= {"workers": self.ray_workers, "address": self.ray_address}
        return how


def read_seeds(text: str) -> tuple[int, ...]:
    """Seeds from text.

    Raises:
        CommandError: not different numbers from 0 to 2³² - 1.

    Example:
        >>> read_seeds("0, 1,2")
        (0, 1, 2)
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) < 2**32 for part in parts) or len({*map(int, parts)}) < len(parts):
        raise CommandError(f"seeds are different numbers with commas between, such as 0,1,2, not {text!r}")
    return tuple(map(int, parts))


def read_shard(text: str) -> tuple[int, int]:
    """A shard from text.

    Raises:
        CommandError: not i/n with i < n.

    Example:
        >>> read_shard("0/4")
        (0, 4)
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise CommandError(f"a shard is i/n with i from 0 to n - 1, such as 0/4, not {text!r}")
    return int(match[1]), int(match[2])


def read_time(text: str) -> float:
    """Seconds from text.

    Raises:
        CommandError: not a number with s, m or h, or without.

    Example:
        >>> read_time("90"), read_time("1.5h")
        (90.0, 5400.0)
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise CommandError(f"a time is a number of seconds, or with m or h of minutes or hours, not {text!r}")
    return float(match[1]) * _SECONDS[match[2]]
