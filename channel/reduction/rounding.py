"""Components to samples by one step for all: what is small becomes 0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featlink.shared.features import Array

ROUND = 1 / 3
"""Instead of a half: small components become 0, which saves more bits than the error costs."""


def multiples(values: Array, step: float, bits: int) -> tuple[Array, npt.NDArray[np.float32]]:
    """Multiples of a step, with a dead zone around 0; sample ``2**(bits - 1)`` stands for 0.

    Args:
        values: any shape.
        step: between two multiples.
        bits: of a sample; what it does not hold is clipped.

    Returns:
        The multiples, and the range (1, 2) of (m, M) that samples are mapped from.

    Example:
        >>> multiples(np.array([0.6, -0.7, 1.5, 9.0], np.float32), 1, 3)[0].tolist()
        [0.0, -1.0, 1.0, 3.0]
    """
    zero = 1 << (bits - 1)
    last = (1 << bits) - 1 - zero
    whole = np.sign(values) * np.floor(np.abs(values) / step + ROUND)
    return whole.clip(-zero, last) * np.float32(step), np.array([[-zero * step, last * step]], np.float32)
