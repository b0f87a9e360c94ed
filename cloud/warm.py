"""Detects in a picture that nobody sent before the first real one, so that it does not pay for what happens once.

That is: compiling kernels or reading them from Numba's cache, and OpenVINO's and torch's first inference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featlink.cloud.detect import Detector
from featlink.shared.frames.cache import PyramidCache
from featlink.shared.frames.wire import IMAGE, REFERENCE, Frame, Meta, Tensor
from featlink.shared.result import Telemetry

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.shared.models.protocol import SplitModel

_PIXEL_RANGE = np.array([[0, 255]], np.float32)


def warm(model: SplitModel) -> None:
    """Send a distorted image to a detector of its own: backbone, heads, masks and their code, and fidelity.

    A frame of features passes through a part of that.

    Args:
        model: the whole network.
    """
    height, width = model.warmup_size()
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    tensors = Tensor(IMAGE, pixels, 8, _PIXEL_RANGE), Tensor(REFERENCE, pixels)
    condition: dict[str, object] = {"at": "original"}
    meta = Meta("image", model.name, model.weights, model.image_sizes(height, width), condition=condition)
    with model.rehearsing():
        Detector(model, PyramidCache(0))(Frame(meta, tensors), Telemetry())
