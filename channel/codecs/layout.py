"""What a codec gets to see: levels as grey pictures, or an image as it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from featlink.channel.distortions.base import IMAGE
from featlink.shared.frames.bitstream import Samples
from featlink.shared.frames.packing import stack, tile, unstack, untile
from featlink.shared.frames.wire import REDUCED

STACKED = "pyramid"
"""Name of the picture that holds all levels."""


def to_pictures(planes: Mapping[str, Samples], packing: str) -> dict[str, Samples]:
    """Samples as pictures.

    Args:
        planes: (C, H, W) by tensor name.
        packing: ``level`` for a picture a level, ``stacked`` for one of all; a reduction's planes are always apart.

    Returns:
        By name: (1, H, W), or an image's (3, H, W).
    """
    if IMAGE in planes:
        return dict(planes)
    if _stacked(planes, packing):
        return {STACKED: stack(planes)[None]}
    return {name: tile(samples)[None] for name, samples in planes.items()}


def from_pictures(
    pictures: Mapping[str, Samples], shapes: Mapping[str, tuple[int, ...]], packing: str
) -> dict[str, Samples]:
    """Undo :func:`to_pictures`.

    Args:
        pictures: by name, as it named them.
        shapes: (C, H, W) by tensor name.
        packing: as given to it.
    """
    if IMAGE in shapes:
        return dict(pictures)
    if _stacked(shapes, packing):
        return unstack(pictures[STACKED][0], shapes)
    return {name: untile(pictures[name][0], shape[0]) for name, shape in shapes.items()}


def picture_shapes(shapes: Mapping[str, tuple[int, ...]], packing: str) -> dict[str, tuple[int, int, int]]:
    """The shapes that :func:`to_pictures` gives, without the samples."""
    empty = {name: np.broadcast_to(np.uint8(0), shape) for name, shape in shapes.items()}
    return {name: (p.shape[0], p.shape[1], p.shape[2]) for name, p in to_pictures(empty, packing).items()}


def _stacked(planes: Mapping[str, object], packing: str) -> bool:
    return packing == "stacked" and not planes.keys() & {*REDUCED}
