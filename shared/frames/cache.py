"""The last few pyramids, so that a sweep over one image runs the backbone once."""

from __future__ import annotations

from dataclasses import dataclass

from featlink.shared.features import FeatureMaps
from featlink.shared.lru import LRU


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
