"""Pool figures over images or runs, some of which lack a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean of at least one value; the sum is rounded once, so the order does not matter."""
    known = list(values)
    return math.fsum(known) / len(known)


def pool_each(
    rows: Iterable[Mapping[str, float | None]], pool: Callable[[list[float]], float] = mean
) -> dict[str, float | None]:
    """Pool each key over the rows that have a value for it; None where none has.

    Example:
        >>> pool_each([{"psnr_f": 40.0, "psnr_i": None}, {"psnr_f": 44.0}])
        {'psnr_f': 42.0, 'psnr_i': None}
    """
    columns: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            column = columns.setdefault(key, [])
            if value is not None:
                column.append(value)
    return {key: pool(column) if column else None for key, column in columns.items()}
