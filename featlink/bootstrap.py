"""Intervals over images: what a figure would be on other images of the same kind.

The percentile bootstrap of Efron (1979): images are drawn with replacement, as many as there are, and the figure is
taken anew. All conditions of a sweep see the same draws, so differences and ratios between them are paired.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DRAWS = 1000
LEAST_IMAGES = 8
"""With fewer, an interval would say more about the method than about the figure."""
_LEVEL = 0.95
_LEAST_DEFINED = 0.9

Interval = tuple[float, float]


def interval(values: npt.ArrayLike) -> Interval | None:
    """The 95 % interval of a figure from its draws.

    Args:
        values: (B,), NaN where a draw has no such figure.

    Returns:
        Its 2.5th and 97.5th percentile; None where more than a tenth of the draws have no figure.

    Example:
        >>> interval(np.arange(1001))
        (25.0, 975.0)
        >>> interval([1.0, np.nan])
    """
    drawn = np.asarray(values, np.float64)
    defined = drawn[~np.isnan(drawn)]
    if not len(defined) or len(defined) < _LEAST_DEFINED * len(drawn):
        return None
    tail = 50 * (1 - _LEVEL)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def undecided(differences: npt.ArrayLike) -> bool:
    """Whether the interval of a difference holds 0, or there is none: too close to call.

    Example:
        >>> undecided([-1.0, 0.5, 2.0]), undecided([1.0, 1.5, 2.0])
        (True, False)
    """
    found = interval(differences)
    return found is None or found[0] <= 0 <= found[1]
