"""What a detector answers, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Detections:
    """What a detector says of one image.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the original image.
        scores: float32 (N,), in 0..1, falling.
        labels: int64 (N,), category ids as the checkpoint numbers them (official: COCO's).
        masks: N arrays float32 (H, W) in 0..1 at the original size, made when they are asked for; None for a
            box-only model.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    masks: Sequence[npt.NDArray[np.float32]] | None
