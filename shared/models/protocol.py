"""The split model: a network whose two halves run apart. This file is the manual for adding one.

A model is one file with a class and a function. The class subclasses :class:`SplitModel`, says in ``spec`` what crosses
the link, and has two methods: :meth:`~SplitModel.encode_input`, the edge's half, and :meth:`~SplitModel.decode`, the
cloud's. The function, ``build(config, heads=True)``, makes one for a :class:`featlink.shared.models.config.ModelConfig`
and is registered as an entry point of the group ``featlink.models``::

    [project.entry-points."featlink.models"]
    my_model = "my_package.my_model:build"

Without a package, ``--model my_model.py:build`` (in Python ``fl.load(model="my_model.py:build")``, for services
``FEATLINK_MODEL``) names the function in a file. ``examples/own_model.py`` is a whole model, and ``featlink
check-model`` says whether one is right.

Edge and cloud each build the model; frames carry its name and the identity of its weights, so that a cloud refuses
features of another model. Both halves are called from several threads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featlink.shared.features import Array, FeatureMaps, FeatureSpec, Image, Sizes
from featlink.shared.metrics.fidelity import Compare, compare_pyramids
from featlink.shared.models.detections import Detections


class SplitModel(Protocol):
    """A network in two halves.

    Attributes:
        name: of the architecture; frames and runs of models with other names are never mixed.
        weights: identity of the weights, the first 16 hex digits of their file's SHA-256.
        spec: what :meth:`encode` makes and :meth:`decode` takes.
        categories: name of each label, from label 0, the background, on. A label is a category id of the data set.
        profile: the numerics, one of :data:`featlink.shared.models.config.Profile`.
        device: where it runs, e.g. ``cpu`` or ``cuda:0``.
        split: where it was cut, of several places; a model that can be cut at one only says nothing.
    """

    name: str
    weights: str
    spec: FeatureSpec
    categories: Sequence[str]
    profile: str = "exact"
    device: str = "cpu"
    split: str = ""

    @abstractmethod
    def encode_input(self, pixels: Array, sizes: Sizes) -> FeatureMaps:
        """The edge's half, from pixels that have the network input's size.

        Args:
            pixels: float32 RGB (3, h, w) in 0..255, (h, w) = ``sizes.resized``; neither padded nor normalised.
            sizes: the image's sizes.

        Returns:
            Contiguous float32 tensors as ``spec`` says them, of ``sizes.padded``.
        """
        ...

    @abstractmethod
    def decode(self, features: FeatureMaps) -> Detections:
        """The cloud's half: features to detections, in pixels of the original image, the surest first.

        Args:
            features: all tensors of ``spec``; not to be written to.

        Returns:
            NumPy arrays, labels from 1 on, of ``categories``. Anything else is refused with a ``ModelError``.
        """
        ...

    def image_sizes(self, height: int, width: int) -> Sizes:
        """The sizes of an image of (height, width) pixels; by default it is not resized, only padded.

        Raises:
            ImageError: the network cannot take it.
        """
        divisor = self.spec.divisor
        return Sizes(
            (height, width), (height, width), (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        )

    def encode(self, image: Image) -> FeatureMaps:
        """The edge's half: image to features. A model that resizes images says here how.

        Args:
            image: uint8 RGB (H, W, 3).

        Raises:
            ImageError: the network cannot take it.
        """
        return self.encode_input(
            np.ascontiguousarray(image.transpose(2, 0, 1), np.float32), self.image_sizes(*image.shape[:2])
        )

    def detect_image(self, image: Image) -> Detections:
        """The whole network on an image; by default its two halves, one after the other.

        A model that has a forward of its own overrides it with that, and ``featlink check-model`` proves that the
        halves, built apart, give the same bits.

        Args:
            image: uint8 RGB (H, W, 3).
        """
        return self.decode(self.encode(image))

    def readers(self) -> Mapping[str, Sequence[npt.NDArray[np.float64]]]:
        """Weights (O, C, h, w) of the layers that read each tensor, the heads' first ones, for ``featlink fit pca``.

        An error that none of them sees costs nothing. Each layer counts alike, whatever its scale. By default nothing
        is known of them, and all channels of a tensor count alike.
        """
        return {}

    def comparison(self) -> Compare:
        """What measures the fidelity of its features: on a GPU, for a model that runs there."""
        return compare_pyramids

    def warmup_size(self) -> tuple[int, int]:
        """(height, width) of a small picture that takes as much memory as a large one, sent through at start-up."""
        return self.spec.divisor, self.spec.divisor

    def rehearsing(self) -> AbstractContextManager[None]:
        """Detect something in noise, too, in here: so that all of the network runs once at start-up."""
        return nullcontext()
