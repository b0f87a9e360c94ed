"""Destroy the order of samples within limits and keep their histogram."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.compiled import numba
from featlink.shared.conditions.registry import Kind, register
from featlink.shared.frames.bitstream import Samples


@register
class RankShuffle(Distortion):
    """Permute samples of near rank among one another: the histogram is kept exactly, the order is not."""

    kind: ClassVar[Kind] = "probe"
    strength: ClassVar[str | None] = "span"
    random: ClassVar[bool] = True

    type: Literal["rank_shuffle"] = "rank_shuffle"
    span: int = Field(ge=1, description="ranks in a window, in samples; 1 changes nothing", examples=[1000, 2, 1000000])

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        """Shuffle the ranks of a level's (C, H, W) samples."""
        return replace(planes, samples=shuffle_ranks(planes.samples, self.span, rng))


def shuffle_ranks(samples: Samples, span: int, rng: np.random.Generator) -> Samples:
    """Sort the samples, and permute them inside consecutive windows of ``span`` ranks.

    Equal samples are ranked in C order. Permuting them changes nothing; with few bits many are equal, so a span
    must exceed the number of samples of one value to have much effect.

    Args:
        samples: any shape, not empty.
        span: ranks in a window; the last window may be shorter.
        rng: draws the permutations, of the windows that hold different values only.

    Returns:
        Same shape and dtype, with the same histogram.

    Example:
        >>> shuffle_ranks(np.array([50, 10, 40, 20, 30], np.uint8), 2, np.random.default_rng(3)).tolist()
        [50, 20, 40, 10, 30]
    """
    flat = samples.reshape(-1)
    counts = np.zeros(int(flat.max()) + 1, np.int64)
    _count(flat, counts)
    ranked = np.repeat(np.arange(len(counts), dtype=flat.dtype), counts)
    span = min(span, flat.size)
    whole = flat.size - flat.size % span
    windows = ranked[:whole].reshape(-1, span)
    mixed = windows[:, 0] != windows[:, -1]
    windows[mixed] = rng.permuted(windows[mixed], axis=1)
    rng.shuffle(ranked[whole:])
    shuffled = np.empty_like(flat)
    _give(flat, np.cumsum(counts) - counts, ranked, shuffled)
    return shuffled.reshape(samples.shape)


# Sorting is counting: there are few different samples. NumPy's argsort and bincount take 16 and 8 bytes per sample.


@numba.njit(nogil=True, cache=True)
def _count(samples, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    for sample in samples:
        counts[sample] += 1


@numba.njit(nogil=True, cache=True)
def _give(samples, ranks, ranked, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Give the k-th of equal samples what stands at their first rank + k; ``ranks`` is used up."""
    for i, sample in enumerate(samples):
        out[i] = ranked[ranks[sample]]
        ranks[sample] += 1
