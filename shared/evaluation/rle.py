"""COCO's compressed run-length code."""

from __future__ import annotations

import numpy as np

from featlink.shared.compiled import numba
from featlink.shared.evaluation.coco import DetectionMask
from featlink.shared.models.detections import Runs

_MOST = 13
"""Characters that a number of 64 bits takes, five of them each."""


def compressed(runs: Runs, size: tuple[int, int]) -> DetectionMask:
    """Compress a mask's runs; the result is pycocotools' own, to the last character.

    Args:
        runs: of the mask.
        size: the image's (height, width).

    Returns:
        Compressed RLE.

    Example:
        >>> compressed(np.array([4, 2, 3]), (3, 3))
        {'size': [3, 3], 'counts': '423'}
    """
    return {"size": list(size), "counts": _characters(runs).tobytes().decode("ascii")}


@numba.njit(nogil=True, cache=True)
def _characters(runs):  # type: ignore[no-untyped-def]  # pragma: no cover
    """``rleToString`` of pycocotools' ``maskApi.c``: five bits a character, the lowest first, and a sixth for "more".

    From the fourth on, a run is told by how much it is longer than the one before the last.
    """
    text = np.empty(_MOST * len(runs), np.uint8)
    at = 0
    for k in range(len(runs)):
        number = runs[k] - runs[k - 2] if k > 2 else runs[k]
        more = True
        while more:
            group = number & 31
            number >>= 5
            more = number != (-1 if group & 16 else 0)
            text[at] = 48 + (group | 32 if more else group)
            at += 1
    return text[:at]
