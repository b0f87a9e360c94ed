"""Detections as arrays; free of torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class MaskPart:
    """The part of an image that a mask fills; it is 0 elsewhere.

    Attributes:
        values: float32 (h, w), in 0..1.
        top, left: where the part begins, in pixels of the image.
        size: (height, width) of the image.
    """

    values: npt.NDArray[np.float32]
    top: int
    left: int
    size: tuple[int, int]


Runs = npt.NDArray[np.int64]
"""Of a binary mask, (K,): how many pixels are outside of the object, then inside, then outside, and so on, column by
column; the first may be 0. They add up to the image's pixels."""


class PartialMasks(Sequence[npt.NDArray[np.float32]]):
    """Masks of an image whose parts and runs can be had without laying out the image.

    Args:
        size: (height, width) of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    @abstractmethod
    def part(self, index: int) -> MaskPart:
        """What the mask fills of the image."""

    @abstractmethod
    def runs(self, index: int) -> Runs:
        """Runs of the mask, an object where it is above 0.5."""

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice) -> list[npt.NDArray[np.float32]]: ...

    def __getitem__(self, index: int | slice) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """The whole mask, float32 (H, W)."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part = self.part(index)
        height, width = part.values.shape
        whole = np.zeros(self.size, np.float32)
        whole[part.top : part.top + height, part.left : part.left + width] = part.values
        return whole


@dataclass(frozen=True)
class Detections:
    """What a detector says of one image.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the original image.
        scores: float32 (N,), in 0..1, falling.
        labels: int64 (N,), category ids as the checkpoint numbers them (official: COCO's).
        masks: N arrays float32 (H, W) in 0..1 at the original size, of a split model :class:`PartialMasks`, made when
            they are asked for; None for a box-only model.
        categories: name of each label, background first; empty where there are none.
        keypoints: float32 (N, K, 3), x, y in pixels of the original image and visibility, of COCO's 17 keypoints of a
            person; None for a model without.

    Example:
        >>> boxes, labels = np.zeros((2, 4), np.float32), np.array([17, 18])
        >>> found = Detections(boxes, np.array([0.9, 0.3], np.float32), labels, None)
        >>> len(found), found.above(0.5).labels
        (2, array([17]))
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    masks: Sequence[npt.NDArray[np.float32]] | None
    categories: Sequence[str] = ()
    keypoints: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float) -> Detections:
        """Those with a score of at least ``threshold``; only their masks are made."""
        count = int(np.count_nonzero(self.scores >= threshold))  # scores fall
        masks = None if self.masks is None else self.masks[:count]
        points = None if self.keypoints is None else self.keypoints[:count]
        first = {"boxes": self.boxes[:count], "scores": self.scores[:count], "labels": self.labels[:count]}
        return replace(self, **first, masks=masks, keypoints=points)  # type: ignore[arg-type]
