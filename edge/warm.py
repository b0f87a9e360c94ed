"""Answers pictures that nobody sees before the first real one, so that it does not pay for what happens once.

That is: compiling kernels or reading them from Numba's cache, OpenVINO's and torch's first inference, Pillow's formats.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from featlink.edge.prepare import EdgePipeline, Request
from featlink.shared.frames import wire
from featlink.shared.frames.cache import PyramidCache
from featlink.shared.pictures import FORMATS

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.shared.models.protocol import SplitModel


def warm(model: SplitModel, send_p6: bool) -> None:
    """Send pictures of every format down a pipeline of their own; one goes through the backbone.

    Args:
        model: its backbone half.
        send_p6: of the service's pipeline.
    """
    height, width = model.warmup_size()
    pipeline = EdgePipeline(model, PyramidCache(0), height * width, send_p6)
    pictures = [_picture(form, height, width) for form in FORMATS]
    for data in pictures:
        wire.write(pipeline(Request(data, "image")).frame)
    wire.write(pipeline(Request(pictures[0])).frame)


def _picture(form: str, height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, form)
    return file.getvalue()
