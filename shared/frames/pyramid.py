"""The feature pyramid p2..p6 of one image, and the sizes the heads need beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVELS = ("p2", "p3", "p4", "p5", "p6")
"""Level names, finest first; level pK has stride 2**K pixels of the network input."""

Array = npt.NDArray[np.float32]

Image = npt.NDArray[np.uint8]
"""A decoded picture: RGB, shape (H, W, 3)."""


@dataclass(frozen=True)
class Sizes:
    """The three sizes of an image on its way through the network, each (height, width) in pixels.

    Attributes:
        original: the decoded image.
        resized: after torchvision's resize to ``min_size``/``max_size``.
        padded: the network input, ``resized`` padded up to a multiple of 32; anchors depend on it.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]


@dataclass(frozen=True)
class Pyramid:
    """Features of one image.

    Attributes:
        levels: name (``p2``..``p6``) to float32 array of shape (C, H, W), finest first.
        sizes: the image's sizes.
    """

    levels: Mapping[str, Array]
    sizes: Sizes

    @property
    def nbytes(self) -> int:
        """Bytes of all levels together."""
        return sum(level.nbytes for level in self.levels.values())


def p6_from_p5(p5: Array) -> Array:
    """Rebuild p6, which the FPN makes by a max-pool of kernel 1 and stride 2.

    Args:
        p5: shape (C, H, W).

    Returns:
        Shape (C, ceil(H/2), ceil(W/2)), contiguous. Bit-identical to torchvision's ``LastLevelMaxPool``.

    Example:
        >>> p6_from_p5(np.zeros((256, 25, 34), np.float32)).shape
        (256, 13, 17)
    """
    return np.ascontiguousarray(p5[..., ::2, ::2])
