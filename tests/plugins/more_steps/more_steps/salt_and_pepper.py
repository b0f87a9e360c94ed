"""Impulse noise: some samples become black or white."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import register


@register
class SaltAndPepper(Distortion):
    """Set some samples, or of an image whole pixels, to the least or the greatest value."""

    random: ClassVar[bool] = True
    strength: ClassVar[str | None] = "share"

    type: Literal["salt_and_pepper"] = "salt_and_pepper"
    share: float = Field(ge=0, le=1, description="share of the samples that are hit")

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Half of what is hit becomes 0, the other half 2**bits - 1."""
        samples = planes.samples
        places = (1, *samples.shape[1:]) if planes.is_image else samples.shape
        chance = np.broadcast_to(rng.random(places, dtype=np.float32), samples.shape)
        noisy = np.where(chance < self.share, samples.dtype.type((1 << planes.bits) - 1), samples)
        return replace(planes, samples=np.where(chance < self.share / 2, samples.dtype.type(0), noisy))
