"""The protocol of engines, which compute results from pictures, condition by condition, with its data types."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from featlink.channel.codecs.base import CodecError
from featlink.shared.errors import FrameError, ImageError
from featlink.shared.result import ItemId
from featlink.shared.store import Result

OF_ONE_IMAGE = (ImageError, FrameError, CodecError)
"""Errors that say something of a picture, perhaps under one condition, and nothing of the next one."""


@dataclass(frozen=True)
class WorkItem:
    """One picture's work. A still is a sequence of one frame.

    Attributes:
        image_id: id in the data set.
        picture: its file, or the file's bytes.
        runs: indices of the runs that lack a result for it, rising.
    """

    image_id: int
    picture: Path | bytes
    runs: tuple[int, ...]

    @property
    def item(self) -> ItemId:
        """What it is in its sequence."""
        return ItemId(self.image_id)

    def read(self) -> bytes | ItemError:
        """The picture file's bytes, or why there are none."""
        if isinstance(self.picture, bytes):
            return self.picture
        try:
            return self.picture.read_bytes()
        except OSError as error:
            return ItemError(self.image_id, self.runs, f"cannot be read: {error.strerror}")


@dataclass(frozen=True)
class ItemResult:
    """One picture under one condition, computed.

    Attributes:
        run: index of the run.
        result: what the run gets.
    """

    run: int
    result: Result


@dataclass(frozen=True)
class ItemError:
    """Why one picture cannot be computed for some runs, whatever else can.

    Attributes:
        image_id: id in the data set.
        runs: indices of the runs.
        why: in one line.
    """

    image_id: int
    runs: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class ModelInfo:
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
    """Computes results. It knows conditions by their run's index, and runs each picture's backbone once."""

    @property
    def identity(self) -> ModelInfo:
        """Which network it runs."""

    def run(self, items: Iterable[WorkItem]) -> Generator[ItemResult | ItemError, None, None]:
        """Compute what each item lacks, in any order; ``items`` is asked for more only when there is room.

        What cannot be computed of a picture is an :class:`ItemError`, and the others go on.

        Raises:
            FeatlinkError: a condition or the engine itself fails.
        """
