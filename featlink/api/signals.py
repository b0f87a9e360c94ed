"""What can be sent, a pyramid or an image, and the frame it becomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xxhash

from featlink.api.pictures import checked
from featlink.edge.prepare import feature_tensors, image_tensors
from featlink.shared.conditions.language import Domain
from featlink.shared.features import FeatureMaps, FeatureSpec, Image, Sizes
from featlink.shared.frames.wire import Frame, Meta
from featlink.shared.models.fpn import FPN

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.shared.models.protocol import SplitModel


@dataclass(frozen=True)
class ModelPyramid(FeatureMaps):
    """A pyramid with what a frame's header says of its origin.

    ``dataclasses.replace(pyramid, levels=...)`` keeps the origin.

    Attributes:
        model: architecture that made it.
        weights: identity of its weights.
        key: content hash of the picture.
        spec: what the model's features are.
    """

    model: str = ""
    weights: str = ""
    key: str = ""
    spec: FeatureSpec = FPN


def domain_of(signal: FeatureMaps | Image) -> Domain:
    """The domain of a signal."""
    return "feature" if isinstance(signal, FeatureMaps) else "image"


def frame_of(signal: FeatureMaps | Image, model: SplitModel | None, image_id: int | None = None) -> Frame:
    """The frame that the edge would send.

    Args:
        signal: a pyramid, or uint8 RGB (H, W, 3).
        model: the network, for what the signal does not say of itself. Without one the header names none, and an
            image's network input is taken to be its original size.
        image_id: the picture's id in its data set, if it has one.

    Raises:
        ImageError: the signal is neither.
    """
    name, weights, spec = ("", "", FPN) if model is None else (model.name, model.weights, model.spec)
    if isinstance(signal, FeatureMaps):
        sizes, tensors = signal.sizes, feature_tensors(signal)
        if isinstance(signal, ModelPyramid):
            name, weights, key, spec = signal.model, signal.weights, signal.key, signal.spec
        else:
            key = key_of(signal.levels.values())
    else:
        image = checked(signal)
        height, width = image.shape[:2]
        sizes = Sizes((height, width), (height, width), (height, width))
        if model is not None:
            sizes = model.image_sizes(height, width)
        tensors, key = image_tensors(image), key_of([image])
    return Frame(Meta(domain_of(signal), name, weights, sizes, image_id, key, features=spec), tensors)


def key_of(arrays: Iterable[npt.NDArray[np.generic]]) -> str:
    """Content hash of arrays: it names the random streams of a picture without an id.

    Example:
        >>> len(key_of([np.zeros((2, 2), np.uint8)]))
        32
    """
    digest = xxhash.xxh3_128()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()
