"""Engines: what turns pictures into results, condition by condition."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cloud.store import Result


@dataclass(frozen=True)
class Task:
    """One image's work.

    Attributes:
        image_id: id in the data set.
        picture: its file.
        wanted: indices of the conditions still missing, rising.
    """

    image_id: int
    picture: Path
    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """One image under one condition, computed.

    Attributes:
        index: of the condition.
        result: what the run gets.
    """

    index: int
    result: Result


@dataclass(frozen=True)
class Identity:
    """Which network an engine runs.

    Attributes:
        model: architecture.
        weights: identity of its weights.
    """

    model: str
    weights: str


class Engine(Protocol):
    """Computes results. It knows its conditions by index, and runs each image's backbone once."""

    @property
    def identity(self) -> Identity:
        """Which network it runs."""

    def run(self, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """Compute what is wanted of each image, in any order; ``tasks`` is asked for more only when there is room.

        Raises:
            FeatlinkError: a picture, a condition or the engine itself fails.
        """
