"""The base class of reductions (parameters, a function of levels to fewer planes, and its inverse); their quantiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from featlink.shared import fitted
from featlink.shared.conditions.language import Domain
from featlink.shared.conditions.registry import Kind, Step
from featlink.shared.features import Array

if TYPE_CHECKING:
    from featlink.channel.reduction.pca import Basis

REDUCED_BY = "reduced"
"""A frame's extension that states a reduction's sender half, which the edge has done."""

ROUND = 1 / 3
"""Instead of a half: small components become 0, which saves more bits than the error costs."""


Chosen = tuple[dict[str, Array], dict[str, npt.NDArray[np.float32]]]
"""Planes that lie on the 2^t values of a sample, and the ranges that samples are mapped from, each by name."""


class Reduction(Step, ABC):
    """A reduction's parameters. Subclasses add ``type: Literal[<its name>]`` and their fields, and are registered.

    Both functions are pure and need nothing but arrays and what was fitted beforehand to the network, which both ends
    have.
    """

    kind: ClassVar[Kind] = "reduction"
    changes_bits: ClassVar[bool] = True
    domains: ClassVar[tuple[Domain, ...]] = ("feature",)

    @property
    def prediction_period(self) -> int:
        """Items from one whose planes are sent to the next; of those between, the differences are. 1 where all are."""
        return 1

    @abstractmethod
    def reduce(self, levels: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """The sender's half.

        Args:
            levels: all that the edge sent, float32 (C, H, W) each; not written to.
            weights: what they are of, :func:`featlink.shared.fitted.key`.

        Returns:
            What crosses the link instead: name (of :data:`featlink.shared.frames.wire.REDUCED`) to float32 (K, h, w).

        Raises:
            ConditionError: nothing was fitted to these weights, or not as much as the parameters ask for.
            FrameError: the levels' sizes do not fit each other.
        """

    @abstractmethod
    def restore(self, planes: Mapping[str, Array], weights: str) -> dict[str, Array]:
        """The receiver's half.

        Args:
            planes: as :meth:`reduce` made them, after the link.
            weights: as given to :meth:`reduce`.

        Returns:
            The levels that are not derived from others, float32 (C, H, W) each.
        """

    def sender_half(self, weights: str) -> str:
        """What :meth:`reduce` is: an exported edge that states the same makes the same planes.

        Args:
            weights: identity of the network's weights.

        Raises:
            ConditionError: nothing was fitted to these weights.
        """
        parameters = ",".join(f"{name}={value}" for name, value in self.model_dump(exclude=self._unseen()).items())
        return f"{parameters},fit={fitted.identity(self.type, weights)}"

    def _unseen(self) -> set[str]:
        """Parameters that :meth:`reduce` does not see."""
        return set()

    def multiply_adds(self, shapes: Mapping[str, tuple[int, int, int]], weights: str) -> tuple[float, float] | None:
        """What reducing and what restoring cost, in multiply-adds; None where that is not known.

        Args:
            shapes: (C, H, W) of the levels.
            weights: as given to :meth:`reduce`.
        """
        del shapes, weights
        return None

    def chosen(self, planes: Mapping[str, Array], bits: int) -> Chosen | None:
        """Planes and the ranges they are mapped to samples from, where the reduction has a quantiser of its own.

        Args:
            planes: of :meth:`reduce`.
            bits: of a sample.

        Returns:
            Values that lie on the ``2**bits`` levels of a range, and the ranges, (1, 2) of (m, M); None to take the
            ranges from the values, as for levels.
        """
        del planes, bits
        return None


class PredictingReduction(Reduction, ABC):
    """A reduction to components in steps, which may be predicted: see :mod:`featlink.channel.reduction.motion`.

    The prediction is made of what the receiver has, so errors do not add up.
    """

    gop: Literal["intra", "low_delay"] = Field(
        default="intra",
        description="How items of a stream are sent: each alone, or as the difference to what was received of the one "
        "before, block by block from where it has moved. A still is sent alone.",
    )
    period: int = Field(default=32, ge=1, le=256, description="Items from one that is sent alone to the next.")

    @property
    def prediction_period(self) -> int:
        """See the base class."""
        return 1 if self.gop == "intra" else self.period

    def _unseen(self) -> set[str]:
        return {"gop", "period"}

    def for_stills(self) -> Self:
        """See the base class: sent alone."""
        return self.model_copy(update={"gop": "intra"})

    @abstractmethod
    def predicted_in(self, weights: str) -> tuple[Basis, float]:
        """The basis of the components and their step, for ``gop=low_delay``.

        Args:
            weights: as given to :meth:`reduce`.
        """


def in_steps(planes: Mapping[str, Array], step: float, bits: int) -> Chosen:
    """Multiples of a step for each plane; sample ``2**(bits - 1)`` stands for 0."""
    rounded = {name: multiples(plane, step, bits) for name, plane in planes.items()}
    return {name: pair[0] for name, pair in rounded.items()}, {name: pair[1] for name, pair in rounded.items()}


def multiples(values: Array, step: float, bits: int) -> tuple[Array, npt.NDArray[np.float32]]:
    """Multiples of a step, with a dead zone around 0; sample ``2**(bits - 1)`` stands for 0.

    Args:
        values: any shape.
        step: between two multiples.
        bits: of a sample; what it does not hold is clipped.

    Returns:
        The multiples, and the range (1, 2) of (m, M) that samples are mapped from.

    Example:
        >>> multiples(np.array([0.6, -0.7, 1.5, 9.0], np.float32), 1, 3)[0].tolist()
        [0.0, -1.0, 1.0, 3.0]
    """
    zero = 1 << (bits - 1)
    last = (1 << bits) - 1 - zero
    whole = np.sign(values) * np.floor(np.abs(values) / step + ROUND)
    return whole.clip(-zero, last) * np.float32(step), np.array([[-zero * step, last * step]], np.float32)
