"""The protocol of engines, which compute results from clips, frame by frame and condition by condition; its types."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from featlink.channel.codecs.base import CodecError
from featlink.shared.errors import FrameError, ImageError
from featlink.shared.store import Result

OF_ONE_IMAGE = (ImageError, FrameError, CodecError)
"""Errors that say something of a picture, perhaps under one condition, and nothing of the next one."""


@dataclass(frozen=True)
class Frame:
    """One picture of the work.

    Attributes:
        image_id: id in the data set.
        picture: its file, or what reads the file's bytes.
    """

    image_id: int
    picture: Path | Callable[[], bytes]

    def read(self) -> bytes | str:
        """The picture file's bytes, or why there are none."""
        try:
            return self.picture.read_bytes() if isinstance(self.picture, Path) else self.picture()
        except OSError as error:
            return f"cannot be read: {error.strerror}"


@dataclass(frozen=True)
class WorkItem:
    """One clip's work. A still is a clip of one frame.

    Attributes:
        frames: in order.
        runs: indices of the runs that lack a result for any of them, rising.
        clip: the video's name; None for a still, which is coded by itself.
    """

    frames: tuple[Frame, ...]
    runs: tuple[int, ...]
    clip: str | None = None

    @classmethod
    def still(cls, image_id: int, picture: Path, runs: tuple[int, ...]) -> WorkItem:
        """A still's work."""
        return cls((Frame(image_id, picture),), runs)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"image {self.frames[0].image_id}" if self.clip is None else f"clip {self.clip}"

    def failed(self, why: str) -> list[ItemError]:
        """The same failure of every frame."""
        return [ItemError(frame.image_id, self.runs, why) for frame in self.frames]


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

    @property
    def of_clip(self) -> str:
        """Why the rest of its clip cannot be computed either: coded without it, it would be another clip."""
        return f"its clip failed at image {self.image_id}: {self.why}"


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
    """Computes results. It knows conditions by their run's index, and runs each picture's backbone once.

    Conditions stay open over a clip, as a frame may be coded with those before it.
    """

    @property
    def identity(self) -> ModelInfo:
        """Which network it runs."""

    def run(self, items: Iterable[WorkItem]) -> Generator[ItemResult | ItemError, None, None]:
        """Compute what each item lacks, in any order; ``items`` is asked for more only when there is room.

        What cannot be computed of a picture is an :class:`ItemError`; what is left of its clip under that condition is
        one too, and the others go on.

        Raises:
            FeatlinkError: a condition or the engine itself fails.
        """
