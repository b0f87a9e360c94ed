"""The learned reduction: a PCA between a network that says what matters and one that fills in what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.reduction.base import Reduction
from featlink.channel.reduction.learned import Learned, read
from featlink.channel.reduction.networks import gains, refined
from featlink.channel.reduction.rounding import multiples
from featlink.shared.conditions.registry import register
from featlink.shared.errors import ModelError
from featlink.shared.features import Array
from featlink.shared.fitted import load
from featlink.shared.frames.wire import LATENT


@register
class Bottleneck(Reduction):
    """Send the components that matter to the heads, as a network learned them, for an entropy coder behind it.

    One latent of all levels at p5's positions: the sender scales the components of the ``pca`` step by how much the
    heads will miss them, and rounds them to multiples of ``step``; the receiver's network refines what came. Both were
    trained by ``featlink fit bottleneck`` on the heads' answers, at all rates together. Those of the bundled detector
    are bundled. p6 is not sent.
    """

    strength: ClassVar[str | None] = "step"

    type: Literal["bottleneck"] = "bottleneck"
    step: float = Field(default=4.0, gt=0, le=100, description="quantisation step, with a dead zone")

    def reduce(self, levels: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """See the base class."""
        learned = _learned(weights)
        basis = learned.basis
        components = basis.analyse(levels, len(basis.deviation))
        return {LATENT: components * gains(learned.layers, components, basis.deviation, self.step)}

    def restore(self, planes: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """See the base class."""
        learned = _learned(weights)
        basis = learned.basis
        return basis.synthesise(refined(learned.layers, planes[LATENT], basis.deviation, self.step))

    def multiply_adds(self, shapes: Mapping[str, tuple[int, int, int]], weights: str) -> tuple[float, float]:
        """Those of the matrix products and of the networks, which work at p5's positions."""
        learned = _learned(weights)
        products = learned.basis.multiply_adds(shapes, len(learned.basis.deviation))
        positions = shapes["p5"][1] * shapes["p5"][2]
        sender, receiver = (
            positions * sum(x.size for name, x in learned.layers.items() if name.startswith(part) and x.ndim == 4)
            for part in ("gains.", "refine.")
        )
        return float(products + sender), float(products + receiver)

    def chosen(
        self, planes: Mapping[str, Array], bits: int
    ) -> tuple[dict[str, Array], dict[str, npt.NDArray[np.float32]]]:
        """Multiples of the step; sample ``2**(bits - 1)`` stands for 0."""
        rounded, ranges = multiples(planes[LATENT], self.step, bits)
        return {LATENT: rounded}, {LATENT: ranges}


def _learned(weights: str) -> Learned:
    learned = load("bottleneck", weights, read)
    if learned.basis.weights != weights:
        raise ModelError(
            f"bottleneck is fitted to weights {learned.basis.weights}, not {weights}: run `featlink fit bottleneck`"
        )
    return learned
