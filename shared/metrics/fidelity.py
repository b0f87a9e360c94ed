"""Compute PSNR, SSIM and rank correlation of distorted feature maps or a distorted image against the clean ones.

Levels are judged in the unit that samples are made in: x = (F - m)·255/(M - m) with the (m, M) of the *reference*
level, real-valued, on both sides and without clipping. So PSNR[F] of t-bit quantisation follows the
uniform-error theory (58.92 dB at 8 bits), as in the paper's Table 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from featlink.shared.conditions.language import Domain
from featlink.shared.features import Array
from featlink.shared.frames.packing import level_range
from featlink.shared.metrics.rank_correlation import centred_ranks, correlation
from featlink.shared.metrics.ssim import PEAK, Plane, level_ssim, ssim


@dataclass(frozen=True)
class Fidelity:
    """Fidelity of a pyramid, of one of its levels, or of an image.

    Attributes:
        psnr: in dB; ``math.inf`` where nothing differs.
        ssim: in [-1, 1]; of a pyramid the mean over levels, of an image the mean over R, G and B.
        spearman: in [-1, 1]; of a pyramid the mean over the levels that have one. None for an image,
            and where the reference is constant.
        levels: of a pyramid, each level's own fidelity by name.
    """

    psnr: float
    ssim: float
    spearman: float | None = None
    levels: Mapping[str, Fidelity] = field(default_factory=dict)

    def figures(self, domain: Domain) -> dict[str, float | None]:
        """The metrics by the names they have in answers: ``psnr_f``… of features ([F]), ``psnr_i``… of an image ([I]).

        An infinite PSNR is None.

        Example:
            >>> Fidelity(math.inf, 1.0).figures("image")
            {'psnr_i': None, 'ssim_i': 1.0}
        """
        psnr = self.psnr if math.isfinite(self.psnr) else None
        if domain == "image":
            return {"psnr_i": psnr, "ssim_i": self.ssim}
        return {"psnr_f": psnr, "ssim_f": self.ssim, "spearman_f": self.spearman}


UNCHANGED = Fidelity(psnr=math.inf, ssim=1.0, spearman=1.0)
"""Of features that nothing has touched."""


Compare = Callable[[Mapping[str, Array], Mapping[str, Array]], Fidelity]
"""What :func:`compare_pyramids` is, wherever it computes."""


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio, 10·log10(255²/MSE).

    Args:
        mse: mean squared error in the unit of 0..255.

    Returns:
        In dB; ``math.inf`` where ``mse`` is 0.

    Example:
        >>> round(psnr(1 / 12), 2)
        58.92
    """
    return 10 * math.log10(PEAK**2 / mse) if mse else math.inf


def squared_error(reference: Plane, distorted: Plane) -> float:
    """Sum of squared differences, accumulated in float64 without a temporary array.

    Args:
        reference: shape (C, H, W), of a dtype OpenCV knows.
        distorted: same shape and dtype.

    Returns:
        The sum, in the arrays' own unit.

    Raises:
        ValueError: the shapes or dtypes differ, or the arrays are empty; a value is not finite.

    Example:
        >>> squared_error(np.zeros((1, 2, 2), np.float32), np.full((1, 2, 2), 3, np.float32))
        36.0
    """
    if reference.shape != distorted.shape or reference.dtype != distorted.dtype or not reference.size:
        sides = " and ".join(f"{side.dtype} {side.shape}" for side in (reference, distorted))
        raise ValueError(f"fidelity needs two arrays of one shape and dtype, not {sides}")
    rows = (len(reference), -1)
    total = cv2.norm(reference.reshape(rows), distorted.reshape(rows), cv2.NORM_L2SQR)
    if not math.isfinite(total):
        raise ValueError("fidelity needs finite values")
    return total


def unit(level: Array) -> tuple[float, float]:
    """The map from a reference level's values to 0..255, x = (F - low)·scale.

    A constant level spans no range to scale by. It maps to 0, and what a distortion adds to it counts
    in the features' own unit (scale 1).

    Args:
        level: shape (C, H, W).

    Returns:
        low and scale.

    Raises:
        ValueError: a value is NaN or infinite.

    Example:
        >>> unit(np.array([[[-1, 0, 4]]], np.float32))
        (-1.0, 51.0)
    """
    low, high = level_range(level)[0].tolist()
    return low, scale_of(low, high)


def scale_of(low: float, high: float) -> float:
    """Units of 0..255 per unit of the features, of a level that spans from ``low`` to ``high``: see :func:`unit`."""
    return PEAK / (high - low) if high > low else 1.0


@dataclass(frozen=True, eq=False)
class CleanLevel:
    """A clean level and what it is measured by.

    Attributes:
        values: shape (C, H, W).
        low, scale: its :func:`unit`.
        ranks: its :func:`~featlink.shared.metrics.rank_correlation.centred_ranks`.
    """

    values: Array
    low: float
    scale: float
    ranks: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: Array) -> CleanLevel:
        """Look at a level.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        return cls(values, *unit(values), centred_ranks(values))


class Remembered:
    """Looks at each clean level once: for the many conditions of one picture, whose levels must not change."""

    def __init__(self) -> None:
        self._known: dict[int, CleanLevel] = {}

    def __call__(self, values: Array) -> CleanLevel:
        """See :meth:`CleanLevel.of`."""
        known = self._known.get(id(values))  # which no other array gets while its level is kept here
        if known is None:
            known = self._known[id(values)] = CleanLevel.of(values)
        return known


def compare_pyramids(
    reference: Mapping[str, Array],
    distorted: Mapping[str, Array],
    look: Callable[[Array], CleanLevel] = CleanLevel.of,
) -> Fidelity:
    """Judge a distorted pyramid by the clean, unquantised one.

    PSNR pools the squared error of all samples of all levels; SSIM and Spearman are means over levels.

    Args:
        reference: level name to float32 array of shape (C, H, W).
        distorted: the same levels, as floats.
        look: at a level of the reference.

    Returns:
        The pyramid's fidelity, with that of each level.

    Raises:
        ValueError: the levels or their shapes differ; a value is NaN or infinite.

    Example:
        >>> clean = {"p6": np.random.default_rng(0).random((256, 2, 3), np.float32)}
        >>> compare_pyramids(clean, clean).psnr
        inf
    """
    if not reference or reference.keys() != distorted.keys():
        raise ValueError(f"fidelity needs the same levels, not {sorted(reference)} and {sorted(distorted)}")
    levels = {}
    error = 0.0
    for name, clean in reference.items():
        seen = look(clean)
        level_error = squared_error(clean, distorted[name]) * seen.scale**2
        error += level_error
        levels[name] = Fidelity(
            psnr=psnr(level_error / clean.size),
            ssim=level_ssim(clean, distorted[name], seen.low, seen.scale),
            spearman=correlation(seen.ranks, centred_ranks(distorted[name])),
        )
    return pooled(levels, error, sum(clean.size for clean in reference.values()))


def pooled(levels: Mapping[str, Fidelity], error: float, samples: int) -> Fidelity:
    """The fidelity of a pyramid from that of its levels.

    Args:
        levels: by name.
        error: squared error of all levels together, in units of 0..255.
        samples: of all levels together.
    """
    correlations = [level.spearman for level in levels.values() if level.spearman is not None]
    return Fidelity(
        psnr=psnr(error / samples),
        ssim=math.fsum(level.ssim for level in levels.values()) / len(levels),
        spearman=math.fsum(correlations) / len(correlations) if correlations else None,
        levels=levels,
    )


def compare_images(reference: Plane, distorted: Plane) -> Fidelity:
    """Judge a distorted RGB image by the clean one.

    Args:
        reference: shape (3, H, W), uint8 or float, values in 0..255.
        distorted: same shape, uint8 or float.

    Returns:
        PSNR pooled over the channels and SSIM as their mean.

    Raises:
        ValueError: the shapes differ or are not (3, H, W); a value is NaN or infinite.

    Example:
        >>> compare_images(np.zeros((3, 16, 16), np.uint8), np.full((3, 16, 16), 255, np.uint8)).psnr
        0.0
    """
    if reference.ndim != 3 or len(reference) != 3:
        raise ValueError(f"image of {reference.shape} is not (3, H, W)")
    if reference.dtype != distorted.dtype:
        reference, distorted = reference.astype(np.float32), distorted.astype(np.float32)
    mse = squared_error(reference, distorted) / reference.size
    channels = [ssim(clean, bad) for clean, bad in zip(reference, distorted, strict=True)]
    return Fidelity(psnr=psnr(mse), ssim=math.fsum(channels) / len(channels))
