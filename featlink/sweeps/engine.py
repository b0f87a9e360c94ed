"""Engines: what turns pictures into results, condition by condition."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from featlink.channel.codecs.process import CodecError
from featlink.shared.errors import FrameError, ImageError
from featlink.shared.store import Result


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
class Failure:
    """One image that cannot be computed under some conditions, whatever else can.

    Attributes:
        image_id: id in the data set.
        indices: of the conditions.
        why: in one line.
    """

    image_id: int
    indices: tuple[int, ...]
    why: str


OF_ONE_IMAGE = (ImageError, FrameError, CodecError)
"""Errors that say something of a picture, perhaps under one condition, and nothing of the next one."""


def read_picture(task: Task) -> bytes | Failure:
    """The picture file's bytes, or why there are none."""
    try:
        return task.picture.read_bytes()
    except OSError as error:
        return Failure(task.image_id, task.wanted, f"cannot be read: {error.strerror}")


@dataclass(frozen=True)
class Identity:
    """Which network an engine runs.

    Attributes:
        model: architecture.
        weights: identity of its weights.
        categories: name of each label, background first; empty if they are not known.
        device: what the network runs on, ``cpu`` or ``cuda``.
    """

    model: str
    weights: str
    categories: tuple[str, ...] = ()
    device: str = "cpu"


class Engine(Protocol):
    """Computes results. It knows its conditions by index, and runs each image's backbone once."""

    @property
    def identity(self) -> Identity:
        """Which network it runs."""

    def run(self, tasks: Iterable[Task]) -> Generator[Outcome | Failure, None, None]:
        """Compute what is wanted of each image, in any order; ``tasks`` is asked for more only when there is room.

        What cannot be computed of an image is a failure, and the others go on.

        Raises:
            FeatlinkError: a condition or the engine itself fails.
        """
