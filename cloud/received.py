"""Frame → pyramid: what the heads run on, without any HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featlink.shared.conditions import language
from featlink.shared.errors import FrameError, ModelError
from featlink.shared.features import FeatureMaps, Sizes
from featlink.shared.frames.packing import dequantize
from featlink.shared.frames.wire import Frame, Tensor
from featlink.shared.models.fpn import FPN

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.shared.models.protocol import SplitModel


def received_pyramid(model: SplitModel, frame: Frame) -> FeatureMaps:
    """What the heads run on: the pyramid that a frame carries, or the backbone's for the image that it carries.

    Args:
        model: the whole network.
        frame: as the channel left it.

    Raises:
        ModelError: the frame was made by another model or other weights.
        FrameError: tensors are missing, or of a size that does not follow from the image's.
    """
    meta = frame.meta
    if (meta.model, meta.weights) != (model.name, model.weights):
        raise ModelError(
            f"the frame is of {meta.model} with weights {meta.weights}, "
            f"this cloud runs {model.name} with {model.weights}"
        )
    _check_sizes(meta.sizes)
    return pyramid(frame) if meta.domain == "feature" else _pyramid_of_image(model, frame)


def pyramid(frame: Frame) -> FeatureMaps:
    """The float pyramid a frame carries, p6 rebuilt where it was not sent.

    Raises:
        FrameError: a level is missing, has the wrong shape, or is not finite.
    """
    sent = {tensor.name for tensor in frame.tensors}
    levels = FPN.complete({name: floats(frame.tensor(name)) for name in FPN.names if name in {*FPN.required, *sent}})
    for name, shape in FPN.shapes(frame.meta.sizes.padded).items():
        if levels[name].shape != shape:
            raise FrameError(f"{name} has shape {levels[name].shape}, the image's sizes give {shape}")
    return FeatureMaps(levels, frame.meta.sizes)


def floats(tensor: Tensor) -> npt.NDArray[np.float32]:
    """A tensor's values: quantised samples mapped back, half floats widened, float32 as it is.

    Raises:
        FrameError: a value is not finite, or integers come without their range.
    """
    if tensor.bits is not None and tensor.ranges is not None:
        return dequantize(tensor.data, tensor.ranges, tensor.bits)  # type: ignore[arg-type]
    if tensor.data.dtype.kind != "f":
        raise FrameError(f"{tensor.name}: {tensor.data.dtype.name} samples without bits and range")
    values: npt.NDArray[np.float32] = tensor.data.astype(np.float32, copy=False)
    if not np.isfinite(values.sum()):  # one pass; NaN and infinity both carry through a sum
        raise FrameError(f"{tensor.name}: features are not finite")
    return values


def _check_sizes(sizes: Sizes) -> None:
    for resized, padded in zip(sizes.resized, sizes.padded, strict=True):
        if padded != -(-resized // FPN.divisor) * FPN.divisor:
            raise FrameError(f"padded size {sizes.padded} does not follow from resized size {sizes.resized}")


def _pyramid_of_image(model: SplitModel, frame: Frame) -> FeatureMaps:
    sizes, tensor = frame.meta.sizes, frame.tensor("image")
    expected = model.image_sizes(*sizes.original)
    if sizes != expected:
        raise FrameError(f"the frame says {sizes}, this model makes it {expected}")
    condition = language.from_fields({"domain": "image", **(frame.meta.condition or {})})
    at_input = tensor.bits is not None and condition.at == "input"  # untouched pixels come at their original size
    height, width = sizes.resized if at_input else sizes.original
    if tensor.data.shape != (3, height, width):
        raise FrameError(f"image has shape {tensor.data.shape}, its condition asks for {(3, height, width)}")
    if at_input:
        return model.encode_input(floats(tensor), sizes)
    pixels = tensor.data if tensor.bits is None else np.rint(floats(tensor))
    if pixels.dtype.kind not in "uf" or (tensor.bits is None and pixels.dtype != np.uint8):
        raise FrameError(f"image is {pixels.dtype.name}, expected uint8 pixels")
    return model.encode(pixels.astype(np.uint8, copy=False).transpose(1, 2, 0))
