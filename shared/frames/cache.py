"""The last few pyramids, so that a sweep over one image runs the backbone once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from featlink.shared.features import FeatureMaps


@dataclass(frozen=True)
class CacheEntry:
    """A pyramid and the milliseconds the backbone took for it."""

    pyramid: FeatureMaps
    backbone_ms: float


class PyramidCache:
    """Least-recently-used pyramids within a bound of bytes.

    Args:
        max_bytes: 0 keeps none.

    Example:
        >>> PyramidCache(0).get("anything") is None
        True
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pyramids: OrderedDict[str, CacheEntry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> CacheEntry | None:
        """What is stored under ``key``, now the most recently used."""
        with self._lock:
            if (kept := self._pyramids.get(key)) is not None:
                self._pyramids.move_to_end(key)
            return kept

    def put(self, key: str, kept: CacheEntry) -> None:
        """Store a pyramid, dropping the least recently used beyond the bound."""
        with self._lock:
            if key in self._pyramids or kept.pyramid.nbytes > self._max_bytes:
                return
            self._pyramids[key] = kept
            self._bytes += kept.pyramid.nbytes
            while self._bytes > self._max_bytes:
                self._bytes -= self._pyramids.popitem(last=False)[1].pyramid.nbytes
