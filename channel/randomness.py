"""Reproducible random streams, keyed by seed, item, tensor and position in the chain."""

from __future__ import annotations

import numpy as np
import xxhash

Item = int | str | tuple[int | str, int]
"""What random streams are named by: a still's id in its data set, or else its pixels' hash; a frame of a sequence as
(sequence, frame)."""


def stream(seed: int, *names: object) -> np.random.Generator:
    """The generator for one use of randomness.

    Order, worker, process and engine do not matter: the stream is a hash of the run's seed and of
    what the numbers are for (item, tensor, place in the chain). Philox is counter-based and gives the
    same numbers on every platform.

    Args:
        seed: the condition's.
        names: what distinguishes this use from every other.

    Example:
        >>> a, b = stream(0, 42, "p2"), stream(0, 42, "p3")
        >>> a.integers(1000) == stream(0, 42, "p2").integers(1000), a.integers(1000) == b.integers(1000)
        (np.True_, np.False_)
    """
    key = xxhash.xxh3_128_intdigest(repr((seed, *names)).encode())
    return np.random.Generator(np.random.Philox(key=key))
