"""What a sweep runs: the conditions asked for, each under one seed or several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition, parse
from featlink.shared.conditions.names import select
from featlink.shared.conditions.registry import chain

CLEAN = {"clean.feature": "feature: identity", "clean.image": "image: identity"}
"""The undistorted run of each domain; every sweep has both, first: retention is relative to them."""


@dataclass(frozen=True)
class Entry:
    """A condition that a sweep runs, under one seed or several.

    Attributes:
        id: its name, or its text where it has none.
        condition: with the first of the seeds.
        seeds: what its random distortions are run under.
    """

    id: str
    condition: Condition
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """A condition under one seed: what a run in the database collects.

    Attributes:
        row: id of the row it belongs to.
        condition: with that seed.
    """

    row: str
    condition: Condition

    @property
    def name(self) -> str:
        """The run's name in the database."""
        return f"{self.row} seed={self.condition.seed}"


def make_plan(given: Sequence[str], seeds: Sequence[int]) -> list[Entry]:
    """Read what conditions are asked for; the clean runs come first.

    Args:
        given: each a name or several (``paper``, ``paper.table3+equal``), a ``.yaml`` or ``.json`` file with a list of
            condition texts or with {id: text}, or a condition's text.
        seeds: for conditions with a random distortion that do not name their own seed.

    Raises:
        CommandError: a file cannot be read, or one id names two conditions.
        ConditionError: a condition that cannot be parsed or run.

    Example:
        >>> [(row.id, row.seeds) for row in make_plan(["quantize:bits=4", "paper.table2.image.sigma1"], [0, 1])][2:]
        [('feature: quantize(bits=4)', (0,)), ('paper.table2.image.sigma1', (0, 1))]
    """
    rows: dict[str, Entry] = {}
    for texts in (CLEAN, *map(_texts, given)):
        for name, text in texts.items():
            condition = parse(text)
            row = _row(name or str(condition), condition, seeds)
            if rows.setdefault(row.id, row) != row:
                raise CommandError(f"{row.id!r} names both '{rows[row.id].condition}' and '{row.condition}'")
    return list(rows.values())


def jobs(rows: Sequence[Entry]) -> list[Job]:
    """The rows' runs, in order."""
    return [Job(row.id, row.condition.model_copy(update={"seed": seed})) for row in rows for seed in row.seeds]


def is_random(condition: Condition) -> bool:
    """Whether another seed gives another result.

    Raises:
        ConditionError: it cannot be run.
    """
    return any(step.random for step in chain(condition))


def _row(name: str, condition: Condition, seeds: Sequence[int]) -> Entry:
    if not is_random(condition) or "seed" in condition.model_fields_set:
        return Entry(name, condition, (condition.seed,))
    return Entry(name, condition.model_copy(update={"seed": seeds[0]}), tuple(seeds))


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
            name or str(parse(one)): one for entry in content for name, one in (select(entry) or {"": entry}).items()
        }
    if isinstance(content, Mapping) and all(isinstance(v, str) for item in content.items() for v in item):
        return {name: one for name, one in content.items() if name}
    raise CommandError(f"{path} holds neither a list of conditions nor conditions by id, all text")
