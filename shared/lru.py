"""Least-recently-used caches with a bound, safe between threads; that of pyramids runs a backbone once an image."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from featlink.shared.features import FeatureMaps

V = TypeVar("V")


class LRU(Generic[V]):
    """Values by key; beyond the bound, those that were not used for the longest time are dropped.

    Args:
        limit: bound of all sizes together.
        size: of a value; by default each counts 1. A value larger than ``limit`` is not stored.

    Example:
        >>> cache = LRU[bytes](5, size=len)
        >>> for key, value in {"a": b"12", "b": b"34", "c": b"56"}.items():
        ...     cache.put(key, value)
        >>> cache.get("a"), cache.get("c")
        (None, b'56')
    """

    def __init__(self, limit: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._limit = limit
        self._size = size
        self._total = 0
        self._values: OrderedDict[str, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> V | None:
        """The value of ``key``, now the most recently used; None where it is not stored."""
        with self._lock:
            if (value := self._values.get(key)) is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: str, value: V) -> None:
        """Store a value; one that is there already stays, as the most recently used."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return
            if (size := self._size(value)) > self._limit:
                return
            self._values[key] = value
            self._total += size
            while self._total > self._limit:
                self._total -= self._size(self._values.popitem(last=False)[1])

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._values.clear()
            self._total = 0


@dataclass(frozen=True)
class CacheEntry:
    """A pyramid and the milliseconds the backbone took for it."""

    pyramid: FeatureMaps
    backbone_ms: float


class PyramidCache(LRU[CacheEntry]):
    """Least-recently-used pyramids within a bound of bytes.

    Args:
        max_bytes: 0 keeps none.

    Example:
        >>> PyramidCache(0).get("anything") is None
        True
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, size=lambda entry: entry.pyramid.nbytes)
