"""How fast a sweep goes and how long the rest takes: the arithmetic of the progress bar and of ``featlink estimate``.

The unit is a picture under all conditions; conditions differ in cost, pictures of one set hardly. The first picture of
each worker is slower than those after it, since networks are compiled for its size, and is left out of the figures once
there are others. What is typical is the median, as one picture that something else disturbed says little of the rest.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from featlink.sweeps.engine import Task

T = TypeVar("T")
_SURE = 0.9
_MEMORY = 2.0
"""Pictures' times over which it is averaged how many are computed at once, as workers come and go."""


@dataclass(frozen=True)
class Typical:
    """What a picture takes.

    Attributes:
        seconds: median.
        low: lower end of a range that holds the median of all pictures.
        high: its upper end.
        sure: with what probability, in 0..1; 0 for a single picture.
    """

    seconds: float
    low: float
    high: float
    sure: float


def settled(seconds: Sequence[float], at_once: int) -> Sequence[float]:
    """Times without the first picture of each worker, unless there are no others.

    Args:
        seconds: of the pictures in the order they were done.
        at_once: how many were computed at a time.

    Example:
        >>> settled([9.0, 3.0, 4.0], 1), settled([9.0], 1)
        ([3.0, 4.0], [9.0])
    """
    return seconds[at_once:] or seconds


def typical(seconds: Sequence[float]) -> Typical:
    """The median and a range around it that assumes nothing of how the times are distributed.

    The k-th smallest and k-th largest of n times hold the median between them with probability 1 - 2·P(B < k), B
    binomial of n trials and 1/2 (Thompson, 1936). Taken is the narrowest such range of at least 90 %, or else the
    widest.

    Args:
        seconds: of at least one picture.

    Example:
        >>> typical([3.0, 5.0, 4.0, 9.0, 4.5])
        Typical(seconds=4.5, low=3.0, high=9.0, sure=0.9375)
    """
    ordered, n = sorted(seconds), len(seconds)
    k = 1
    while k + 1 <= n // 2 and _holds(n, k + 1) >= _SURE:
        k += 1
    return Typical(statistics.median(ordered), ordered[k - 1], ordered[n - k], _holds(n, k))


def remaining_s(a_picture: float, waiting: float, begun: Sequence[float] = (), at_once: float = 1) -> float:
    """Seconds until all pictures are done.

    Args:
        a_picture: seconds.
        waiting: pictures that are not begun.
        begun: how long ago each of those that are was begun.
        at_once: how many are computed at a time.

    Example:
        >>> remaining_s(10, waiting=3), remaining_s(10, waiting=3, begun=[4, 14], at_once=2)
        (30.0, 18.0)
    """
    return (a_picture * waiting + sum(max(0.0, a_picture - ago) for ago in begun)) / at_once


def whole_s(a_picture: float, pictures: int, workers: int) -> float:
    """Seconds that workers take for whole pictures, each one at a time.

    Example:
        >>> whole_s(10, 5, 2)
        30
    """
    return a_picture * math.ceil(pictures / workers)


def disk_bytes(used: int, fixed: int, done: int, pictures: int) -> int:
    """Bytes of a sweep's folder when it is complete.

    Args:
        used: by it now.
        fixed: of these, what does not grow with the pictures that are done.
        done: pictures.
        pictures: in the end.

    Example:
        >>> disk_bytes(used=1500, fixed=500, done=2, pictures=10)
        5500
    """
    return fixed + round(max(0, used - fixed) * pictures / done)


def spread(things: Sequence[T], count: int) -> list[T]:
    """So many things, evenly from first to last, each from the middle of its part.

    Example:
        >>> spread("abcdefghi", 3)
        ['b', 'e', 'h']
    """
    count = min(count, len(things))
    return [things[(2 * i + 1) * len(things) // (2 * count)] for i in range(count)]


def duration(seconds: float) -> str:
    """A time in words, in two units.

    Example:
        >>> duration(0.4), duration(59), duration(3700), duration(200_000)
        ('0 s', '59 s', '1 h 1 min', '2 d 7 h')
    """
    rest = round(seconds)
    if rest < 60:
        return f"{rest} s"
    units = (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1))
    large, small, size, part = next(unit for unit in units if rest >= unit[2])
    return f"{rest // size} {large} {rest % size // part} {small}"


@dataclass(frozen=True)
class Times:
    """What a call of a sweep took.

    Attributes:
        starting: seconds before the first picture: data set checked, model loaded.
        first: seconds of the first picture; None if none was computed.
        pictures: seconds of those after it, or of the first where it is alone; of pictures that overlap, their part.
        evaluating: seconds after the last picture.
    """

    starting: float = 0.0
    first: float | None = None
    pictures: Sequence[float] = ()
    evaluating: float = 0.0


@dataclass
class _Begun:
    at: float
    missing: int
    share: float
    failed: bool = False


@dataclass
class Pace:
    """Measures a sweep as it goes. An engine takes a task when it begins with it, which is how this knows.

    Attributes:
        clock: seconds.
        seconds: of the pictures that were computed, as they were done; of a picture that lacked some conditions only,
            what all would have taken.
    """

    clock: Callable[[], float] = time.monotonic
    seconds: list[float] = field(default_factory=list)
    _begun: dict[int, _Begun] = field(default_factory=dict)
    _waiting: float = 0
    _most_at_once: int = 1
    _at_once: float = 1
    _looked: float = 0

    def watch(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """The tasks, noting when each is taken."""
        most = max((len(task.wanted) for task in tasks), default=1)
        self._waiting = sum(len(task.wanted) for task in tasks) / most
        return self._taken(tasks, most)

    def done(self, image_id: int, runs: int, failed: bool = False) -> None:
        """Note that some runs of a picture are over; times of a picture that failed say nothing."""
        self._look()
        picture = self._begun[image_id]
        picture.missing -= runs
        picture.failed |= failed
        if picture.missing == 0:
            del self._begun[image_id]
            if not picture.failed:
                self.seconds.append((self.clock() - picture.at) / picture.share)

    @property
    def first(self) -> float | None:
        """Seconds of the picture that was done first."""
        return self.seconds[0] if self.seconds else None

    @property
    def steady(self) -> Sequence[float]:
        """Seconds of the pictures after the first ones."""
        return settled(self.seconds, self._most_at_once)

    @property
    def remaining(self) -> float | None:
        """Seconds until the end; None before a picture is done."""
        if not self.seconds:
            return None
        now, a_picture = self.clock(), typical(self.steady).seconds
        begun = [min(a_picture, now - one.at) + a_picture * (1 - one.share) for one in self._begun.values()]
        return remaining_s(a_picture, self._waiting, begun, self.at_once)

    @property
    def at_once(self) -> float:
        """How many pictures are computed at a time, on average over the last few: workers, or pictures that overlap."""
        return max(1.0, self._at_once)

    def _look(self) -> None:
        now, since = self.clock(), self._looked
        self._looked = now
        keep = math.exp((since - now) / (_MEMORY * typical(self.seconds).seconds)) if self.seconds else 0
        self._at_once = keep * self._at_once + (1 - keep) * len(self._begun)

    def _taken(self, tasks: Iterable[Task], most: int) -> Iterator[Task]:
        for task in tasks:
            self._look()
            share = len(task.wanted) / most
            self._begun[task.image_id] = _Begun(self.clock(), len(task.wanted), share)
            self._waiting -= share
            self._most_at_once = max(self._most_at_once, len(self._begun))
            yield task


def _holds(n: int, k: int) -> float:
    """The probability that the k-th smallest and k-th largest of n values hold the median between them."""
    return max(0.0, 1 - sum(math.comb(n, i) for i in range(k)) / float(2 ** (n - 1)))
