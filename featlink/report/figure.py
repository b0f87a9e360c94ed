"""Plots as data for Plotly.js, coloured by the page's theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NAMES = {"feature": "features", "image": "image"}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon", "pentagon")


def colour(name: str) -> str:
    """A colour of the page's theme, which the page's script puts in: ``feature``, ``image``, ``muted``, ..."""
    return f"var(--{name})"


@dataclass(frozen=True)
class Figure:
    """An interactive plot.

    Attributes:
        id: of its element in the page.
        title: what it shows.
        caption: what is to be seen in it.
        traces: Plotly's ``data``.
        layout: Plotly's ``layout``, without colours of the theme.
        height: pixels.
    """

    id: str
    title: str
    caption: str
    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 460


def axis(title: str, **options: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}, "automargin": True, **options}


def error_bars(points: Sequence[tuple[float, tuple[float, float] | None]], axis: str = "y") -> dict[str, Any]:
    """Intervals of points as a trace's error bars, in percent; nothing where no point has one.

    Args:
        points: value and interval of each, shares of 1.
        axis: ``x`` or ``y``.

    Example:
        >>> error_bars([(0.5, (0.25, 0.75)), (0.5, None)])["error_y"]["arrayminus"]
        [25.0, 0.0]
    """
    if not any(found for _, found in points):
        return {}
    above = [0.0 if found is None else 100 * (found[1] - value) for value, found in points]
    below = [0.0 if found is None else 100 * (value - found[0]) for value, found in points]
    ends = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    return {f"error_{axis}": {**ends, "thickness": 1, "width": 2}}
