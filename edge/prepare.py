"""Prepare a frame at the edge: picture file → feature maps (or pixels) → frame, without HTTP."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import PIL.Image
import xxhash

from featlink.shared.conditions.language import Condition, Domain
from featlink.shared.errors import ModelError, type_name
from featlink.shared.features import FeatureMaps, Image
from featlink.shared.frames import wire
from featlink.shared.frames.wire import IMAGE, Frame, Meta, Tensor
from featlink.shared.lru import CacheEntry, PyramidCache
from featlink.shared.pictures import FORMATS, decode
from featlink.shared.result import Telemetry
from featlink.shared.timing import timed

if TYPE_CHECKING:  # the channel's container has no torch, and the API's signals are made here
    from featlink.shared.models.protocol import SplitModel


@dataclass(frozen=True)
class Request:
    """One picture to send.

    Attributes:
        data: the picture file's bytes.
        domain: send ``feature``s or the ``image``.
        condition: for the channel; None leaves the channel's default.
        image_id: its id in its data set, if any.
    """

    data: bytes
    domain: Domain = "feature"
    condition: Condition | None = None
    image_id: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A picture on its way.

    Attributes:
        frame: to send.
        image: the decoded picture, uint8 RGB (H, W, 3).
        telemetry: with the timings ``decode`` and ``backbone``; the latter is what the pyramid once took, also where it
            comes from the cache.
        saved_ms: of that, what this request did not take.
    """

    frame: Frame
    image: Image
    telemetry: Telemetry
    saved_ms: float = 0


def prepare(
    model: SplitModel,
    request: Request,
    *,
    max_pixels: int,
    cache: PyramidCache | None = None,
    send_derived: bool = True,
) -> Prepared:
    """Decode a picture and make its frame.

    Args:
        model: its backbone half is enough.
        request: the picture.
        max_pixels: largest picture accepted.
        cache: of earlier pictures' pyramids.
        send_derived: False leaves out features that the cloud can rebuild from others, such as p6.

    Raises:
        ImageError: the picture cannot be decoded.
    """
    key = xxhash.xxh3_128_hexdigest(request.data)
    image, decode_ms = timed(lambda: decode(request.data, max_pixels))
    timings, saved_ms = {"decode": decode_ms}, 0.0
    if request.domain == "feature":
        entry = None if cache is None else cache.get(key)
        if entry is not None:
            saved_ms = entry.backbone_ms
        else:
            entry = CacheEntry(*timed(lambda: model.encode(image)))
            if cache is not None:
                cache.put(key, entry)
        timings["backbone"] = entry.backbone_ms
        sizes, tensors = entry.pyramid.sizes, feature_tensors(entry.pyramid)
        if not send_derived:
            tensors = tuple(tensor for tensor in tensors if tensor.name not in model.spec.derived)
    else:
        sizes, tensors = model.image_sizes(*image.shape[:2]), image_tensors(image)
    meta = Meta(
        domain=request.domain,
        model=model.name,
        weights=model.weights,
        sizes=sizes,
        image_id=request.image_id,
        key=key,
        condition=request.condition,
        features=model.spec,
    )
    return Prepared(Frame(meta, tensors), image, Telemetry(timings), saved_ms)


def feature_tensors(pyramid: FeatureMaps) -> tuple[Tensor, ...]:
    """What a frame of features carries: the levels as they are.

    Raises:
        ModelError: it is no :class:`FeatureMaps`, or one is no NumPy array, as of a model that gives torch's tensors.
    """
    given: object = pyramid  # made by anyone's model
    if not isinstance(given, FeatureMaps):
        raise ModelError(f"features: the model gave {type_name(given)}, not featlink.FeatureMaps")
    levels: Mapping[str, object] = given.levels
    for name, level in levels.items():
        if not isinstance(level, np.ndarray):
            raise ModelError(f"features: the model gave {name} as {type_name(level)}, not as a NumPy array")
    return tuple(Tensor(name, level) for name, level in pyramid.levels.items())


def image_tensors(image: Image) -> tuple[Tensor, ...]:
    """What a frame of an image carries: its R, G and B, uint8 (3, H, W)."""
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))
    return (Tensor(IMAGE, planes),)


def warm(model: SplitModel) -> None:
    """Prepare pictures that nobody sent, so that the first real one does not pay for what happens once.

    That is: compiling kernels or reading them from Numba's cache, OpenVINO's and torch's first inference, Pillow's
    formats.

    Args:
        model: its backbone half.
    """
    height, width = model.warmup_size()
    pictures = [_black(form, height, width) for form in FORMATS]
    for request in [*(Request(data, "image") for data in pictures), Request(pictures[0])]:
        wire.write(prepare(model, request, max_pixels=height * width).frame)


def _black(form: str, height: int, width: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, form)
    return file.getvalue()
