"""What the learned reduction is trained on: components of pictures, and where the detector finds something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featlink.channel.reduction.basis import Basis
from featlink.dataset import MAX_PIXELS
from featlink.shared.models.protocol import SplitModel
from featlink.shared.pictures import decode

_FOUND = 0.08
"""Score from which a detection counts: the unsure ones must stay unsure."""
_MOST = 30
"""Detections of a picture, and regions beside them."""
_BESIDE = 0.15
"""How far those are off, in sides of the box."""


@dataclass(frozen=True)
class Lesson:
    """One picture.

    Attributes:
        components: float16 (K, h, w), clean.
        resized: (height, width) of the network's input.
        boxes: (N, 4) of what was found in the clean picture, in pixels of the input; N ≥ 1.
        labels: (N,) of them.
    """

    components: Tensor
    resized: tuple[int, int]
    boxes: Tensor
    labels: Tensor

    def regions(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The boxes, then as many as ``_MOST`` beside them, with the labels that they are near to."""
        chosen = rng.integers(0, len(self.boxes), _MOST)
        near = self.boxes[chosen]
        sides = (near[:, 2:] - near[:, :2]).repeat(1, 2)
        moved = near + sides * torch.from_numpy(rng.normal(0, _BESIDE, tuple(near.shape)).astype(np.float32))
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 4)
        return torch.cat([self.boxes, moved]), torch.cat([self.labels, self.labels[chosen]])


def prepare(model: SplitModel, basis: Basis, pictures: Sequence[Path], done: Callable[[], None]) -> list[Lesson]:
    """Lessons of the pictures in which the detector finds something.

    Args:
        model: with heads.
        basis: fitted to it.
        pictures: files.
        done: called after each.

    Raises:
        ImageError: a file is not a picture.
    """
    found = []
    for path in pictures:
        pyramid = model.encode(decode(path.read_bytes(), MAX_PIXELS))
        detections = model.decode(pyramid)
        sure = detections.scores > _FOUND
        if sure.any():
            (height, width), (full_height, full_width) = pyramid.sizes.resized, pyramid.sizes.original
            scale = np.array([width / full_width, height / full_height] * 2, np.float32)
            found.append(
                Lesson(
                    torch.from_numpy(basis.analyse(pyramid.levels, len(basis.deviation)).astype(np.float16)),
                    (height, width),
                    torch.from_numpy((detections.boxes * scale)[sure][:_MOST].astype(np.float32)),
                    torch.from_numpy(detections.labels[sure][:_MOST].astype(np.int64)),
                )
            )
        done()
    return found
