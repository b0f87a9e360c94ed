"""Random draws that stay the same across NumPy's versions and machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class Draws:
    """A stream of random draws, made of PCG64's raw 64-bit integers alone.

    NumPy promises the bit generator's stream, but not that of ``Generator``'s distributions.

    Args:
        seed: any non-negative integer.

    Example:
        >>> Draws(7).integer(0, 999)
        625
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def uniform(self, low: float, high: float) -> float:
        """A number of [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def triangular(self, reach: float) -> float:
        """A number of (-reach, reach), the likelier the closer to 0."""
        return self.uniform(0.0, reach) - self.uniform(0.0, reach)

    def integer(self, low: int, high: int) -> int:
        """An integer of low..high, both included."""
        return low + (int(self._bits.random_raw()) >> 32) * (high - low + 1) // 2**32

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform(0.0, 1.0) < probability

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.integer(0, len(items) - 1)]

    def bytes(self, count: int) -> npt.NDArray[np.uint8]:
        """Uniform bytes, uint8 (count,)."""
        words = np.asarray(self._bits.random_raw(-(-count // 8)), "<u8")
        return words.view(np.uint8)[:count]
