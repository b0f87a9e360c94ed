"""Detects in a picture that nobody sent before the first real one, so that it does not pay for what happens once.

That is: compiling kernels or reading them from Numba's cache, and OpenVINO's and torch's first inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from cloud.detect import Detector
from shared.frames.cache import PyramidCache
from shared.frames.report import Report
from shared.frames.wire import IMAGE, REFERENCE, Frame, Meta, Tensor

if TYPE_CHECKING:  # torch takes seconds to import
    from shared.detector.split import SplitModel

_HEIGHT, _WIDTH = 48, 64
"""Of the picture; the network's input has the size of any 4:3 picture's."""
_PIXEL_RANGE = np.array([[0, 255]], np.float32)


def warm(model: SplitModel) -> None:
    """Send a distorted image to a detector of its own: backbone, heads, masks and their code, and fidelity.

    A frame of features passes through a part of that.

    Args:
        model: the whole network.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (3, _HEIGHT, _WIDTH), np.uint8)
    tensors = Tensor(IMAGE, pixels, 8, _PIXEL_RANGE), Tensor(REFERENCE, pixels)
    condition: dict[str, object] = {"at": "original"}
    meta = Meta("image", model.name, model.weights, model.image_sizes(_HEIGHT, _WIDTH), condition=condition)
    with _any_score(model):
        Detector(model, PyramidCache(0))(Frame(meta, tensors), Report())


@contextmanager
def _any_score(model: SplitModel) -> Iterator[None]:
    """Let every region count as an object: noise has none, and then nothing behind the box head would run."""
    heads = model.network.roi_heads
    threshold, heads.score_thresh = heads.score_thresh, -1.0
    try:
        yield
    finally:
        heads.score_thresh = threshold
