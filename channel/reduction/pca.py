"""The PCA of all levels together: training-free, fitted once to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.channel.reduction.base import Reduction
from featlink.channel.reduction.basis import Basis, read
from featlink.channel.reduction.rounding import multiples
from featlink.shared.conditions.registry import register
from featlink.shared.errors import ConditionError, ModelError
from featlink.shared.features import Array
from featlink.shared.fitted import load
from featlink.shared.frames.wire import LATENT


@register
class Pca(Reduction):
    """Send the first components of a PCA of all levels at p5's positions, in a metric of what the heads read.

    The basis is made by ``featlink fit pca``; that of the bundled detector is bundled. p6 is not sent.

    Without ``step``, components are mapped to samples as levels are. With it, they are rounded to multiples of it and
    clipped at what the samples' bits hold, for an entropy coder behind it: errors of all components weigh the same, so
    one step for all is reverse water-filling.
    """

    strength: ClassVar[str | None] = "step"
    changes_bits: ClassVar[bool] = True

    type: Literal["pca"] = "pca"
    components: int = Field(default=128, ge=1, le=1024, description="how many components cross the link")
    step: float | None = Field(
        default=None, gt=0, le=1000, description="quantisation step, with a dead zone; default: the range decides"
    )

    def reduce(self, levels: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """See the base class."""
        basis = _basis(weights)
        if self.components > (most := len(basis.deviation)):
            raise ConditionError(f"pca: the basis for weights {weights} has {most} components, not {self.components}")
        return {LATENT: basis.analyse(levels, self.components)}

    def restore(self, planes: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """See the base class."""
        return _basis(weights).synthesise(planes[LATENT])

    def multiply_adds(self, shapes: Mapping[str, tuple[int, int, int]], weights: str) -> tuple[float, float] | None:
        """Those of the matrix products; both ways cost the same."""
        one_way = float(_basis(weights).multiply_adds(shapes, self.components))
        return one_way, one_way

    def chosen(
        self, planes: Mapping[str, Array], bits: int
    ) -> tuple[dict[str, Array], dict[str, npt.NDArray[np.float32]]] | None:
        """Multiples of the step; sample ``2**(bits - 1)`` stands for 0."""
        if self.step is None:
            return None
        rounded, ranges = multiples(planes[LATENT], self.step, bits)
        return {LATENT: rounded}, {LATENT: ranges}


def _basis(weights: str) -> Basis:
    basis = load("pca", weights, read)
    if basis.weights != weights:
        raise ModelError(f"pca is fitted to weights {basis.weights}, not {weights}: run `featlink fit pca`")
    return basis
