"""Image → frame: what the edge does to a picture, without any HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import xxhash

from featlink.shared.conditions.language import Condition, Domain
from featlink.shared.features import FeatureMaps, Image
from featlink.shared.frames.cache import CacheEntry, PyramidCache
from featlink.shared.frames.wire import IMAGE, Frame, Meta, Tensor
from featlink.shared.pictures import decode
from featlink.shared.result import Telemetry
from featlink.shared.timing import timed

if TYPE_CHECKING:  # torch takes seconds to import
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
class EdgeResult:
    """A picture on its way.

    Attributes:
        frame: to send.
        image: the decoded picture, uint8 RGB (H, W, 3).
        report: with the timings ``decode`` and ``backbone``; the latter is what the pyramid once took, also where it
            was kept from an earlier request.
        reused_ms: of that, what this request did not take.
    """

    frame: Frame
    image: Image
    report: Telemetry
    reused_ms: float = 0


class EdgePipeline:
    """Turns pictures into frames.

    Args:
        model: its backbone half.
        cache: of pyramids.
        max_pixels: largest picture accepted.
        send_p6: False leaves p6 out; the cloud rebuilds it from p5.
    """

    def __init__(self, model: SplitModel, cache: PyramidCache, max_pixels: int, send_p6: bool = True) -> None:
        self._model = model
        self._cache = cache
        self._max_pixels = max_pixels
        self._send_p6 = send_p6

    @property
    def model(self) -> dict[str, Any]:
        """Which network it is: architecture, identity of the weights, numerics, device, and the name of each label."""
        model = self._model
        return {
            "model": model.name,
            "weights": model.weights,
            "profile": model.profile,
            "device": model.device.partition(":")[0],
            "categories": list(model.categories),
        }

    def __call__(self, request: Request) -> EdgeResult:
        """Decode a picture and make its frame.

        Raises:
            ImageError: the picture cannot be decoded.
        """
        key = xxhash.xxh3_128_hexdigest(request.data)
        image, decode_ms = timed(lambda: decode(request.data, self._max_pixels))
        if request.domain == "feature":
            kept, reused_ms = self._pyramid(key, image)
            pyramid, timings = kept.pyramid, {"decode": decode_ms, "backbone": kept.backbone_ms}
            sizes = pyramid.sizes
            tensors = feature_tensors(pyramid)[: None if self._send_p6 else -1]
        else:
            sizes, timings, reused_ms = self._model.image_sizes(*image.shape[:2]), {"decode": decode_ms}, 0.0
            tensors = image_tensors(image)
        meta = Meta(
            domain=request.domain,
            model=self._model.name,
            weights=self._model.weights,
            sizes=sizes,
            image_id=request.image_id,
            key=key,
            condition=None if request.condition is None else request.condition.model_dump(mode="json"),
        )
        return EdgeResult(Frame(meta, tensors), image, Telemetry(timings), reused_ms)

    def _pyramid(self, key: str, image: Image) -> tuple[CacheEntry, float]:
        """The picture's pyramid, and the backbone's time if that was saved."""
        if (kept := self._cache.get(key)) is not None:
            return kept, kept.backbone_ms
        kept = CacheEntry(*timed(lambda: self._model.encode(image)))
        self._cache.put(key, kept)
        return kept, 0.0


def feature_tensors(pyramid: FeatureMaps) -> tuple[Tensor, ...]:
    """What a frame of features carries: the levels as they are."""
    return tuple(Tensor(name, level) for name, level in pyramid.levels.items())


def image_tensors(image: Image) -> tuple[Tensor, ...]:
    """What a frame of an image carries: its R, G and B, uint8 (3, H, W)."""
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))
    return (Tensor(IMAGE, planes),)
