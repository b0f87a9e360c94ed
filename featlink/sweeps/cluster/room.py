"""How many workers a cluster has room for, and how many threads each may have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Node:
    """What Ray may hand out on one machine.

    Attributes:
        cpus: cores.
        gpus: GPUs.
        memory: bytes.
    """

    cpus: float
    gpus: float = 0
    memory: float = 0


@dataclass(frozen=True)
class Need:
    """What one worker takes.

    Attributes:
        threads: of its engine, each a core.
        gpus: 1, or the n-th part of one; 0 for none.
        memory: bytes; 0 asks for none in particular.
    """

    threads: int
    gpus: float = 0
    memory: int = 0


def room(nodes: Sequence[Node], need: Need) -> int:
    """How many workers fit, each on one node.

    Example:
        >>> room([Node(8), Node(3)], Need(threads=2))
        5
        >>> room([Node(8, gpus=1), Node(64)], Need(threads=2, gpus=0.5))
        2
    """
    return sum(_on(node, need) for node in nodes)


def _on(node: Node, need: Need) -> int:
    pairs = ((node.cpus, need.threads), (node.memory, need.memory))
    fitting = [int(has / takes + _ROUNDING) for has, takes in pairs if takes]
    if need.gpus:  # each has its part of one GPU, not of two
        fitting.append(int(node.gpus) * round(1 / need.gpus))
    return min(fitting)


def gpus_each(nodes: Sequence[Node], workers: int | None) -> float:
    """How much of a GPU each of so many workers gets: all of one, or an equal part where there are too few.

    Example:
        >>> gpus_each([Node(8, gpus=1), Node(8, gpus=1)], 2), gpus_each([Node(16, gpus=2)], 3)
        (1.0, 0.5)
    """
    there = sum(int(node.gpus) for node in nodes)
    return 1 / math.ceil(workers / there) if workers and there else 1.0


def slots(nodes: Sequence[Node], need: Need) -> int:
    """How many workers to have where nobody says: one for each node, or for each GPU or part of one that they take.

    Example:
        >>> slots([Node(8), Node(3), Node(0)], Need(threads=1)), slots([Node(8, gpus=4)], Need(threads=1, gpus=1))
        (2, 4)
    """
    return sum(_on(node, need) if need.gpus else min(1, _on(node, need)) for node in nodes)


def most_threads(nodes: Sequence[Node], need: Need, workers: int) -> int:
    """The most threads that so many workers may have at once; 1 if there is no room for them anyhow.

    Example:
        >>> most_threads([Node(8), Node(3)], Need(threads=1), 2), most_threads([Node(8), Node(3)], Need(threads=1), 4)
        (4, 2)
    """
    most = int(max((node.cpus for node in nodes), default=1))
    fitting = (
        threads for threads in range(most, 1, -1) if room(nodes, replace(need, threads=threads)) >= max(1, workers)
    )
    return next(fitting, 1)
