"""The base class of distortions: parameters, and a function of quantised samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from featlink.shared.conditions.registry import Kind, Step
from featlink.shared.features import Array
from featlink.shared.frames.bitstream import Samples
from featlink.shared.frames.wire import IMAGE


@dataclass(frozen=True)
class Planes:
    """Quantised samples of one level, or of an image, on their way through a chain.

    Attributes:
        samples: shape (N, H, W); uint8 to 8 bits, else uint16. Of an image: R, G and B. Of a level: its channels, or
            for a spatial distortion under ``layout=tiled`` one plane of tiles.
        bits: their depth t; values lie in 0..2**t - 1. Parameters in units of 0..255 scale by (2**t - 1)/255.
        ranges: float32 (1, 2) or (C, 2): the values that sample 0 and sample 2**t - 1 stand for.
        name: of the tensor, e.g. ``p2``; ``image`` of an image.
    """

    samples: Samples
    bits: int
    ranges: npt.NDArray[np.float32]
    name: str = ""

    @property
    def is_image(self) -> bool:
        """Whether these are the R, G and B of an image: ``samples[:, y, x]`` is one pixel."""
        return self.name == IMAGE


class Distortion(Step, ABC):
    """A distortion's parameters. Subclasses add ``type: Literal[<its name>]`` and their fields, and are registered."""

    kind: ClassVar[Kind] = "distortion"

    spatial: ClassVar[bool] = False
    """Whether it mixes neighbouring samples, so that the layout of channels matters to it."""

    @property
    def keeps_depth(self) -> bool:
        """Whether it takes samples at the depth they have; else they are brought to the condition's depth first."""
        return self.kind == "loss"

    @property
    def first_depth(self) -> int | None:
        """Bits per sample that floats are mapped to where it is the first of a chain; None: the condition's depth."""
        return None

    def narrow(self, values: Array, ranges: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """The ranges that floats are mapped from where it comes before all steps of samples; values beyond are clipped.

        Args:
            values: float32 (C, H, W), within ``ranges``.
            ranges: float32 (1, 2) or (C, 2) of (m, M), as they would be without it.

        Returns:
            Ranges within the given ones, which are all that it then does; None for a step of samples.
        """
        del values, ranges
        return None

    @abstractmethod
    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Distort one level or image.

        Pure: the input is not written to, and randomness comes from ``rng`` alone.

        Args:
            planes: what to distort; its samples may be read-only.
            rng: the stream of this image, level and step.

        Returns:
            Samples of the same shape, with ``dataclasses.replace(planes, samples=...)``.
        """

    def overhead_bits(self, payload_bits: int) -> int:
        """Bits that cross the link besides the samples, e.g. packet headers."""
        del payload_bits
        return 0
