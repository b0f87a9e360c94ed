"""Plan a sweep: parse its options, and list the runs that they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from featlink.dataset import Truth
from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition, parse
from featlink.shared.conditions.names import select
from featlink.shared.conditions.registry import chain
from featlink.shared.models.config import ModelConfig

CLEAN = {"clean.feature": "feature: identity", "clean.image": "image: identity"}
"""The undistorted run of each domain; every sweep has both, first: retention is relative to them."""

EngineName = Literal["local", "http", "ray"]
_WORKERS_HERE = 2
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class SweepOptions:
    """A sweep as asked for.

    Attributes:
        dataset: its folder.
        config: the network.
        conditions: as :func:`make_plan` takes them.
        out: the output folder.
        seeds: of conditions with random distortions.
        fidelity: measure it.
        engine: what computes.
        limit: only so many images, or clips of a data set of videos, the first ones; None for all.
        shard: (i, n): only every n-th of those, from the i-th on, counted from 0.
        sample: only so many of the images (or clips) that lack results, spread evenly over them; None for all.
        time_budget: seconds after which to stop; None for no end.
        truth: what counts as right: the annotations, or what the clean run detects.
        pictures: the data set's folder of pictures; None where it is found.
        frames: ``local``: a folder of a device's frames, which cross the link in the feature domain; None for the
            network's own features.
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
    pictures: Path | None = None
    frames: Path | None = None
    edge: str | None = None
    keep_bitstreams: Path | None = None
    workers: int | None = None
    ray_address: str | None = None
    worker_memory_gb: float = 0.0

    @property
    def ray_workers(self) -> int | None:
        """How many workers to ask for at most; None for as many as there is room for."""
        return _WORKERS_HERE if self.workers is None and self.ray_address is None else self.workers


@dataclass(frozen=True)
class PlannedRun:
    """One condition under one seed: what one run in the database collects.

    Attributes:
        id: the condition's name, or its text where it has none; runs that differ in the seed alone share it.
        condition: with that seed.
    """

    id: str
    condition: Condition

    @property
    def name(self) -> str:
        """The run's name in the database."""
        return f"{self.id} seed={self.condition.seed}"


def make_plan(given: Iterable[str], seeds: Sequence[int]) -> list[PlannedRun]:
    """Read what conditions are asked for; the clean runs come first.

    Args:
        given: each a name or several (``paper``, ``paper.table3+equal``), a ``.yaml`` or ``.json`` file with a list of
            condition texts or with {id: text}, or a condition's text.
        seeds: for conditions with a random distortion that do not name their own seed.

    Raises:
        CommandError: a file cannot be read, or one id names two conditions.
        ConditionError: a condition that cannot be parsed or run.

    Example:
        >>> [run.name for run in make_plan(["quantize:bits=4", "paper.table2.image.sigma1"], [0, 1])][2:]
        ['feature: quantize(bits=4) seed=0', 'paper.table2.image.sigma1 seed=0', 'paper.table2.image.sigma1 seed=1']
    """
    plan: dict[str, list[PlannedRun]] = {}
    for texts in (CLEAN, *map(_texts, given)):
        for name, text in texts.items():
            condition = parse(text)
            id = name or str(condition)
            runs = [PlannedRun(id, condition)]
            if "seed" not in condition.model_fields_set and is_random(condition):
                runs = [PlannedRun(id, condition.model_copy(update={"seed": seed})) for seed in seeds]
            if plan.setdefault(id, runs) != runs:
                raise CommandError(f"{id!r} names both '{plan[id][0].condition}' and '{runs[0].condition}'")
    return [run for runs in plan.values() for run in runs]


def by_condition(runs: Iterable[PlannedRun]) -> dict[str, list[PlannedRun]]:
    """Group runs by their condition's id, each with its seeds in order."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(run.id, []).append(run)
    return groups


def is_random(condition: Condition) -> bool:
    """Tell whether another seed gives another result.

    Raises:
        ConditionError: it cannot be run.
    """
    return any(step.random for step in chain(condition))


def _texts(given: str) -> dict[str, str]:
    """Condition texts by id; an empty id leaves it to the condition."""
    if named := select(given):
        return named
    path = Path(given)
    if path.suffix in (".yaml", ".yml", ".json"):
        return _from_file(path)
    return {"": given}


def _from_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise CommandError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise CommandError(f"cannot read {path}: it is nested too deeply") from None
    if isinstance(content, list) and all(isinstance(entry, str) for entry in content):
        return {
            name or str(parse(text)): text for entry in content for name, text in (select(entry) or {"": entry}).items()
        }
    if isinstance(content, Mapping) and all(isinstance(v, str) for item in content.items() for v in item):
        return {name: text for name, text in content.items() if name}
    raise CommandError(f"{path} holds neither a list of conditions nor conditions by id, all text")


def read_seeds(text: str) -> tuple[int, ...]:
    """Read seeds.

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
    """Read a shard.

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
    """Read a duration, in seconds.

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
