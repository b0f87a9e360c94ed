"""Say what crosses the link: a :class:`FeatureSpec` names a model's feature tensors, :class:`FeatureMaps` holds them.

Free of torch. Nothing outside a model assumes names, channels or strides: its spec gives them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featlink.shared.errors import ModelError

Array = npt.NDArray[np.float32]

Image = npt.NDArray[np.uint8]
"""A decoded picture: RGB, shape (H, W, 3)."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")


@dataclass(frozen=True)
class TensorSpec:
    """One feature tensor of a split model.

    Attributes:
        name: up to 16 lower-case letters, digits and ``_``, a letter first, e.g. ``p2``.
        channels: of the tensor.
        stride: pixels of the network input per position, so that its sides are those of the input over it, rounded up.
        source: name of the tensor of which this one holds every n-th position, where n is the quotient of the strides;
            a receiver can make it again, so it need not be sent. None for a tensor of its own.
    """

    name: str
    channels: int
    stride: int
    source: str | None = None


@dataclass(frozen=True)
class FeatureSpec:
    """The feature tensors of a split model.

    Attributes:
        tensors: finest first.
        divisor: the network input's sides are padded to multiples of it.

    Example:
        >>> spec = FeatureSpec((TensorSpec("fine", 8, 4), TensorSpec("coarse", 8, 8, source="fine")), divisor=8)
        >>> spec.names, spec.derived, spec.shapes((24, 32))
        (('fine', 'coarse'), ('coarse',), {'fine': (8, 6, 8), 'coarse': (8, 3, 4)})
    """

    tensors: tuple[TensorSpec, ...]
    divisor: int = 1

    def __post_init__(self) -> None:
        known: dict[str, TensorSpec] = {}
        for tensor in self.tensors:
            if not _NAME.fullmatch(tensor.name):
                raise ModelError(
                    f"features: {tensor.name!r} is no name of a tensor: up to 16 lower-case letters, digits and _, "
                    "a letter first"
                )
            if tensor.name in known:
                raise ModelError(f"features: two tensors are called {tensor.name!r}")
            if tensor.channels < 1 or tensor.stride < 1:
                raise ModelError(f"features: {tensor.name} needs at least 1 channel and stride 1")
            if tensor.source is not None:
                source = known.get(tensor.source)
                if source is None or source.channels != tensor.channels or tensor.stride % source.stride:
                    raise ModelError(f"features: {tensor.name} cannot be made of {tensor.source}")
            known[tensor.name] = tensor
        if not known or self.divisor < 1:
            raise ModelError("features: at least one tensor, and a divisor of at least 1")

    @property
    def names(self) -> tuple[str, ...]:
        """Of all tensors, finest first."""
        return tuple(tensor.name for tensor in self.tensors)

    @property
    def derived(self) -> tuple[str, ...]:
        """Names of those that a receiver can make again."""
        return tuple(tensor.name for tensor in self.tensors if tensor.source is not None)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of those that have to be sent."""
        return tuple(tensor.name for tensor in self.tensors if tensor.source is None)

    def __getitem__(self, name: str) -> TensorSpec:
        """The tensor of that name.

        Raises:
            KeyError: there is none.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    def shapes(self, padded: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
        """Shapes (C, H, W) by name, of a network input of these (height, width) pixels."""
        return {t.name: (t.channels, -(-padded[0] // t.stride), -(-padded[1] // t.stride)) for t in self.tensors}

    def complete(self, levels: Mapping[str, Array]) -> dict[str, Array]:
        """Tensors in the spec's order, with those derived ones that are not among them made again.

        Args:
            levels: name to (C, H, W), of the spec.

        Example:
            >>> spec = FeatureSpec((TensorSpec("p5", 1, 32), TensorSpec("p6", 1, 64, source="p5")))
            >>> spec.complete({"p5": np.zeros((1, 25, 34), np.float32)})["p6"].shape
            (1, 13, 17)
        """
        whole: dict[str, Array] = {}
        for tensor in self.tensors:
            if tensor.name in levels:
                whole[tensor.name] = levels[tensor.name]
            elif tensor.source in whole:
                step = tensor.stride // self[tensor.source].stride
                whole[tensor.name] = np.ascontiguousarray(whole[tensor.source][..., ::step, ::step])
        return whole


@dataclass(frozen=True)
class Sizes:
    """The three sizes of an image on its way through the network, each (height, width) in pixels.

    Attributes:
        original: the decoded image.
        resized: after the model's resize, of torchvision's to ``min_size``/``max_size``.
        padded: the network input, ``resized`` padded up to a multiple of the spec's divisor; anchors depend on it.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]


@dataclass(frozen=True)
class FeatureMaps:
    """Features of one image.

    Attributes:
        levels: name (of a torchvision detector ``p2``..``p6``) to float32 array of shape (C, H, W), finest first.
        sizes: the image's sizes.
    """

    levels: Mapping[str, Array]
    sizes: Sizes

    @property
    def nbytes(self) -> int:
        """Bytes of all levels together."""
        return sum(level.nbytes for level in self.levels.values())


Pyramid = FeatureMaps
"""Its name where a model is a detector with a feature pyramid."""
