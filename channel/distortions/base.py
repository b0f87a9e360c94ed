"""What every distortion is: parameters, and a function of quantised samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from shared.bitstream import Samples


@dataclass(frozen=True)
class Planes:
    """Quantised samples on their way through a chain.

    Attributes:
        samples: shape (N, H, W); uint8 to 8 bits, else uint16. A spatial distortion gets what the condition's layout
            says: one tiled plane, or a level's channels; every other gets the channels; of an image R, G and B.
        bits: their depth t; values lie in 0..2**t - 1. Parameters in units of 0..255 scale by (2**t - 1)/255.
        ranges: float32 (1, 2) or (C, 2): the values that sample 0 and sample 2**t - 1 stand for.
    """

    samples: Samples
    bits: int
    ranges: npt.NDArray[np.float32]


class Distortion(BaseModel, ABC):
    """A distortion's parameters. Subclasses add ``type: Literal[<its name>]`` and their fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    type: str

    spatial: ClassVar[bool] = False
    """Whether it mixes neighbouring samples, so that the layout of channels matters to it."""

    on_payload: ClassVar[bool] = False
    """Whether it damages the payload as it crosses the link, not the picture."""

    random: ClassVar[bool] = False
    """Whether it draws from its stream: under another seed, another result."""

    @property
    def keeps_depth(self) -> bool:
        """Whether it takes samples at the depth they have; else they are brought to the condition's depth first."""
        return self.on_payload

    @abstractmethod
    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Distort one level or image. Pure: the input is not written to; randomness comes from ``rng`` alone."""

    def overhead_bits(self, payload_bits: int) -> int:
        """Bits that cross the link besides the samples, e.g. packet headers."""
        del payload_bits
        return 0
