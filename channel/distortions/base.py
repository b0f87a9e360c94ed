"""What every distortion is: parameters, and a function of quantised samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from shared.bitstream import Samples


@dataclass(frozen=True)
class Planes:
    """Quantised samples on their way through a chain.

    Attributes:
        samples: shape (N, H, W): a level's channels, or an image's R, G, B; uint8 to 8 bits, else uint16.
        bits: their depth t; values lie in 0..2**t - 1.
    """

    samples: Samples
    bits: int


class Distortion(BaseModel, ABC):
    """A distortion's parameters. Subclasses add ``type: Literal[<its name>]`` and their fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def apply(self, planes: Planes) -> Planes:
        """Distort one level or image. Pure: the input is not written to."""
