"""Bootstrap confidence intervals over images, or over clips with all their frames.

The percentile bootstrap of Efron (1979): images are drawn with replacement, as many as there are, and the figure is
taken anew. All conditions of a sweep see the same draws, so differences and ratios between them are paired. Frames of
one clip are no independent samples, so of sequences, clips are drawn, each with all its frames.

AP is biased upwards on small sets, because interpolated precision is a maximum over few samples. Intervals are for the
AP of many such images, so draws are shifted by that bias, which is estimated from halves of the images. The bias
falls with the number of images to the power of 2/3, as a monotone envelope's distance from what it covers does (Kiefer
and Wolfowitz 1976, up to a logarithm) and as AP was measured to do: so AP of the images is too high by what AP of their
halves is higher still, over 2^(2/3) − 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DRAWS = 1000
SPLITS = 50
"""Random halvings that bias is taken from."""
_BIAS = 1 / (2 ** (2 / 3) - 1)
LEAST_IMAGES = 8
"""Or clips: with fewer, an interval would say more about the method than about the figure."""
_TAIL = 2.5
"""Percent on each side of a 95 % interval."""
_LEAST_DEFINED = 0.9

Interval = tuple[float, float]


def draw_images(
    count: int, draws: int, seed: int = 0, clips: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Bootstrap draws of ``count`` images with replacement, as weights.

    The same for every condition of a sweep, so that differences are of the same images.

    Args:
        count: N, how many images there are.
        draws: B.
        seed: of the draws.
        clips: (N,) whose frame each image is; clips are drawn with all their frames. None: each image by itself.

    Returns:
        (B, N), how often each draw has each image. Without clips, each row adds up to N.

    Example:
        >>> draw_images(4, 2).sum(axis=1).tolist()
        [4, 4]
        >>> drawn = draw_images(5, 2, clips=np.array([7, 7, 7, 2, 2]))
        >>> (drawn[:, 0] == drawn[:, 2]).all(), (drawn[:, 0] + drawn[:, 3]).tolist()
        (np.True_, [2, 2])
    """
    if clips is not None:
        _, place = np.unique(clips, return_inverse=True)
        return draw_images(place.max(initial=-1) + 1, draws, seed)[:, place]
    rng = np.random.default_rng(seed)
    weights: npt.NDArray[np.int64] = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.int64)
    return weights


def halve_images(count: int, splits: int, clips: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
    """Random halves of ``count`` images, as weights of 0 and 1; with ``clips``, halves of the clips.

    Returns:
        (2 · ``splits``, ``count``); rows 2i and 2i + 1 are the two halves of one split.

    Example:
        >>> halve_images(4, 1).sum(axis=0).tolist(), halve_images(5, 1).sum(axis=1).tolist()
        ([1, 1, 1, 1], [2, 3])
    """
    if clips is not None:
        _, place = np.unique(clips, return_inverse=True)
        return halve_images(place.max(initial=-1) + 1, splits)[:, place]
    rng = np.random.default_rng(0)
    first = np.array([rng.permutation(count) < count // 2 for _ in range(splits)], np.int64).reshape(splits, count)
    return np.stack([first, 1 - first], axis=1).reshape(2 * splits, count)


def interval(values: npt.ArrayLike) -> Interval | None:
    """The 95 % interval of a figure from its draws.

    Args:
        values: (B,), NaN where a draw has no such figure.

    Returns:
        Its 2.5th and 97.5th percentile; None where more than a tenth of the draws have no figure.

    Example:
        >>> interval(np.arange(1001))
        (25.0, 975.0)
        >>> interval([1.0, np.nan])
    """
    drawn = np.asarray(values, np.float64)
    defined = drawn[~np.isnan(drawn)]
    if not len(defined) or len(defined) < _LEAST_DEFINED * len(drawn):
        return None
    low, high = np.percentile(defined, [_TAIL, 100 - _TAIL])
    return float(low), float(high)


def unbiased(drawn: npt.ArrayLike, value: float | None, halves: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Draws of an AP, moved to where they would lie with many images.

    Args:
        drawn: (B,) AP of each draw.
        value: AP of the images.
        halves: (H,) AP of halves of the images.

    Example:
        >>> unbiased([0.4, 0.6], 0.5, [0.5, 0.5]).round(3).tolist()
        [0.4, 0.6]
        >>> (unbiased([0.5, 0.7], 0.5, [0.52]) < [0.5, 0.7]).all()
        np.True_
    """
    values, parts = np.asarray(drawn, np.float64), np.asarray(halves, np.float64)
    if value is None or np.isnan(values).all() or np.isnan(parts).all():
        return values
    bias = _BIAS * (np.nanmean(parts) - value)
    moved: npt.NDArray[np.float64] = np.clip(values - np.nanmean(values) + value - bias, 0, 1)
    return moved


def undecided(differences: npt.ArrayLike) -> bool:
    """Whether the interval of a difference holds 0, or there is none: too close to call.

    Example:
        >>> undecided([-1.0, 0.5, 2.0]), undecided([1.0, 1.5, 2.0])
        (True, False)
    """
    found = interval(differences)
    return found is None or found[0] <= 0 <= found[1]
