"""The picture that needs most of a network's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.shared.models.torchvision_rcnn import SplitModel

_SHRINK = 10


def largest_input(model: SplitModel) -> tuple[int, int]:
    """Size of a small picture that the network enlarges to about its largest input, so that it costs little to make.

    Args:
        model: either half.

    Returns:
        height and width in pixels.
    """
    transform = model.network.transform
    sides = (min(transform.min_size), transform.max_size)
    height, width = (max(1, side // _SHRINK) for side in sides)
    return height, width
