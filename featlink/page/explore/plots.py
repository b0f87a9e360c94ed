"""The report's plots in the page's colours."""

from __future__ import annotations

from typing import Any

from featlink.report.curves import Figure

_LIGHT = {"feature": "#0069a6", "image": "#b54708", "muted": "#56616c", "ink": "#1a2026", "line": "#d8dde3"}
_DARK = {"feature": "#56b4e9", "image": "#f0a13c", "muted": "#9aa6b2", "ink": "#e6eaee", "line": "#2f3740"}


def plotly(figure: Figure, dark: bool) -> dict[str, Any]:
    """A figure as Plotly.js takes it.

    Args:
        figure: of a report.
        dark: whether the page is.

    Example:
        >>> plotly(Figure("id", "", "", [{"line": {"color": "var(--feature)"}}], {}), dark=False)["data"]
        [{'line': {'color': '#0069a6'}}]
    """
    colours = _DARK if dark else _LIGHT
    line = {"gridcolor": colours["line"], "zerolinecolor": colours["line"], "linecolor": colours["muted"]}
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": colours["ink"], "family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 56, "r": 12, "t": 8, "b": 48},
        "height": figure.height - 60,
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": -0.22},
        **figure.layout,
    }
    for name in ("xaxis", "yaxis"):
        layout[name] = {**line, **layout.get(name, {})}
    coloured: dict[str, Any] = _coloured({"data": list(figure.traces), "layout": layout}, colours)
    return {**coloured, "config": {"displaylogo": False, "responsive": True, "displayModeBar": False}}


def _coloured(value: Any, colours: dict[str, str]) -> Any:
    """The theme's variables replaced, wherever they stand."""
    if isinstance(value, dict):
        return {key: _coloured(item, colours) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_coloured(item, colours) for item in value]
    if isinstance(value, str) and value.startswith("var(--"):
        return colours.get(value.removeprefix("var(--").removesuffix(")"), colours["muted"])
    return value
