"""What arrived, as pictures for a person to look at."""

from __future__ import annotations

import base64
from collections.abc import Collection

import numpy as np

from featlink.shared.frames.shown import pixels, plane, png
from featlink.shared.frames.wire import IMAGE, Frame


def received(source: Frame, frame: Frame, names: Collection[str]) -> dict[str, str]:
    """Tensors of a frame as base64 of PNG files: a picture in RGB, a level as its plane of tiles.

    Args:
        source: what was sent; levels that arrive as floats are shown in its ranges.
        frame: what arrived.
        names: of tensors; those the frame has not are left out.
    """
    clean = {tensor.name: tensor for tensor in source.tensors}
    found = {}
    for tensor in frame.tensors:
        if tensor.name not in names:
            continue
        if tensor.name == IMAGE:
            picture = pixels(frame)
        else:
            before = clean.get(tensor.name)
            picture = plane(tensor, None if before is None else np.asarray(before.data, np.float32))
        found[tensor.name] = base64.b64encode(png(picture)).decode()
    return found
