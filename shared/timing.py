"""Measure milliseconds on the monotonic clock, and define the stages that timings are reported by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

Place = Literal["edge", "link", "cloud", "measuring"]


def timed(job: Callable[[], T]) -> tuple[T, float]:
    """Run ``job``.

    Returns:
        Its result, and how many milliseconds it took.
    """
    started = time.monotonic()
    result = job()
    return result, (time.monotonic() - started) * 1e3


@dataclass(frozen=True)
class Stage:
    """A stage of a picture's way.

    Attributes:
        name: its key among an answer's ``timings``.
        label: for people.
        place: where it takes place in a real deployment, in which sender and receiver do the channel's work:
            ``edge``, ``link`` or ``cloud``; ``measuring`` for what a real deployment does not do.
        coding: whether it makes the bits that cross the link, or reads them.
        simulated: whether a simulator has it and a real deployment has not.
    """

    name: str
    label: str
    place: Place
    coding: bool = False
    simulated: bool = False


STAGES = (
    Stage("decode", "decode the picture", "edge"),
    Stage("backbone", "backbone", "edge"),
    Stage("reduce", "reduce", "edge", coding=True),
    Stage("serialize", "serialise", "edge"),
    Stage("distort", "map and distort", "edge"),
    Stage("compress", "encode", "edge", coding=True),
    Stage("transfer", "transfer", "link"),
    Stage("hops", "between services", "link", simulated=True),
    Stage("decompress", "decode", "cloud", coding=True),
    Stage("restore", "restore", "cloud", coding=True),
    Stage("heads", "heads", "cloud"),
    Stage("encode", "masks to RLE", "cloud"),
    Stage("fidelity", "measure fidelity", "measuring", simulated=True),
    Stage("total", "total", "measuring", simulated=True),
)
"""Every stage in the order of a picture's way. ``transfer`` is the simulated link's time, ``hops`` what the services'
own connections take, ``total`` the request's time as the edge sees it; of an image, ``heads`` is the whole network."""

_BY_NAME = {one.name: one for one in STAGES}
_ORDER = {one.name: order for order, one in enumerate(STAGES)}


def stage(name: str) -> Stage:
    """The stage called ``name``. One that the table has not, such as another package's, is the edge's.

    Example:
        >>> stage("compress").label, stage("compress").place
        ('encode', 'edge')
    """
    return _BY_NAME.get(name) or Stage(name, name, "edge")


def in_order(names: Iterable[str]) -> list[Stage]:
    """The stages of these names in the order of a picture's way; those that the table has not come last.

    Example:
        >>> [stage.name for stage in in_order(["heads", "transfer", "backbone"])]
        ['backbone', 'transfer', 'heads']
    """
    return sorted(map(stage, names), key=lambda one: _ORDER.get(one.name, len(STAGES)))
