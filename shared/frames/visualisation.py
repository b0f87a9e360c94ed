"""Visualise what a frame carries: a picture as it is, features as the planes of tiles that are coded."""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from featlink.shared.errors import FrameError
from featlink.shared.features import Array, Image
from featlink.shared.frames.packing import level_range, quantize, tile
from featlink.shared.frames.wire import IMAGE, Frame, Tensor

Plane = npt.NDArray[np.uint8]
"""Grey, shape (rows·H, columns·W)."""

_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def pixels(frame: Frame) -> Image:
    """The picture in an image frame, uint8 RGB (H, W, 3), at the size it was sent."""
    tensor = frame.tensor(IMAGE)
    return np.ascontiguousarray(eight_bits(tensor.data, tensor.bits or 8).transpose(1, 2, 0))


def plane(tensor: Tensor, clean: Array | None = None) -> Plane:
    """One level as an 8-bit plane of tiles.

    Args:
        tensor: samples of any depth, or floats.
        clean: what floats are shown in the range of, clipped to it; default: their own.

    Raises:
        FrameError: floats that are not finite.
    """
    if tensor.bits is not None:
        return tile(eight_bits(tensor.data, tensor.bits))
    level = np.asarray(tensor.data, np.float32)
    try:
        ranges = level_range(level if clean is None else clean)
    except ValueError as error:
        raise FrameError(f"{tensor.name}: {error}") from None
    return tile(quantize(level if clean is None else level.clip(*ranges[0]), ranges, 8))


def planes(frame: Frame) -> dict[str, Plane]:
    """The levels of a feature frame as 8-bit planes of tiles, by name."""
    return {tensor.name: plane(tensor) for tensor in frame.tensors}


def eight_bits(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """Samples of ``bits`` bits scaled to 0..255."""
    if bits == 8:
        return samples.astype(np.uint8, copy=False)
    return np.rint(samples * (255 / ((1 << bits) - 1))).astype(np.uint8)


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Lossless and quick: a PNG file's bytes of RGB (H, W, 3) or grey (H, W)."""
    stored = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    return bytes(cv2.imencode(".png", stored, _FAST)[1])


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
