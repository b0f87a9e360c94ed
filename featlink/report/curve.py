"""A rate–accuracy curve, with its points in every bootstrap draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from featlink.report.families import Family
from featlink.report.sweep import Sweep
from featlink.results import Row
from featlink.shared.evaluation.matching import Floats

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy against rate.

    Attributes:
        name: what it is called.
        points: (rate, accuracy in 0..1).
        draws: rate and accuracy of every point in each bootstrap draw, (B, P) each; None where there are no draws.
        rows: the conditions behind the points; none for a curve of others.
    """

    name: str
    points: Points
    draws: tuple[Floats, Floats] | None = None
    rows: Sequence[Row] = ()


def curve(sweep: Sweep, name: str, rows: Iterable[Row], kind: str | None = None, per_pixel: bool = False) -> Curve:
    """The curve of some rows of a sweep; rows without AP are left out.

    Args:
        sweep: theirs.
        name: of the curve.
        rows: one per strength.
        kind: ``segm`` or ``bbox``; default: the leading one.
        per_pixel: rate in bits per pixel instead of bits an image.
    """
    known = [(row, ap) for row in rows if (ap := sweep.ap(row, kind)) is not None]
    scale = [row.bpp / row.bits_per_image if per_pixel and row.bits_per_image else 1.0 for row, _ in known]
    points = [(row.bits_per_image * factor, ap) for (row, ap), factor in zip(known, scale, strict=True)]
    bits, drawn = [sweep.bits_draws(row) for row, _ in known], [sweep.draws(row, kind) for row, _ in known]
    draws = None
    if known and all(one is not None and len(one) for one in [*bits, *drawn]):
        draws = np.stack(bits, axis=1) * scale, np.stack(drawn, axis=1)  # type: ignore[arg-type]  # none is None
    return Curve(name, points, draws, [row for row, _ in known])


def family_curve(sweep: Sweep, family: Family, kind: str | None = None) -> Curve:
    """A family's curve; arguments as of :func:`curve`."""
    return curve(sweep, family.name, family.rows, kind)
