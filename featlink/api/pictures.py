"""Pictures in and out: a file to pixels, detections drawn on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featlink.dataset import MAX_PIXELS
from featlink.shared.errors import FeatlinkError, ImageError
from featlink.shared.features import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from featlink.shared.models.detections import Detections


def read_image(path: str | Path) -> Image:
    """Read a JPEG, PNG, WebP or BMP file, turned as its EXIF orientation says.

    Args:
        path: the file.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        FeatlinkError: there is no such file, or it is no such picture.

    Example:
        >>> import featlink as fl
        >>> fl.read_image(fl.open_dataset("starter").images[1]).shape[2]
        3
    """
    from featlink.shared.pictures import decode

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FeatlinkError(f"cannot read {path}: {error.strerror}") from None
    try:
        return decode(data, MAX_PIXELS).copy()  # Pillow's pixels are read-only
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def draw(image: Image, found: Detections, threshold: float = 0.5) -> Picture:
    """Draw masks, boxes, names and scores.

    Args:
        image: uint8 RGB (H, W, 3).
        found: what a model detected in it.
        threshold: leave out detections with lower scores.

    Returns:
        A new picture; a notebook shows it.

    Raises:
        ImageError: the array is no image.
    """
    import PIL.Image

    from featlink.shared.evaluation.coco_results import to_coco
    from featlink.shared.models.overlay import paint

    names = {str(label): name for label, name in enumerate(found.categories)}
    return PIL.Image.fromarray(paint(checked(image), to_coco(found.above(threshold), None), names, threshold))


def checked(image: object) -> Image:
    """The array as it is, if it is an image.

    Raises:
        ImageError: it is not uint8 (H, W, 3).

    Example:
        >>> checked(np.zeros((4, 6), np.float32))
        Traceback (most recent call last):
        ...
        featlink.shared.errors.ImageError: an image is a uint8 array (H, W, 3) of RGB, not float32 (4, 6)
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"an image is a uint8 array (H, W, 3) of RGB, not {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"an image is a uint8 array (H, W, 3) of RGB, not {image.dtype} {image.shape}")
    return image
