"""AP against bits and against PSNR, both domains on one plot; ours against the paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

from featlink.paper import TABLES, paper_rows
from featlink.report.bd import bits_vary
from featlink.report.families import families
from featlink.report.figure import NAMES, SYMBOLS, Figure, axis, colour, error_bars
from featlink.report.sweep import DOMAINS, Sweep, label
from featlink.report.table import kilobytes, percent, with_interval
from featlink.results import Row
from featlink.shared.conditions import registry


def curve_figures(sweep: Sweep) -> list[Figure]:
    """The equal-strength comparison: AP–bits and AP–PSNR; a plot without points is left out."""
    ap = f"AP {sweep.kind} %"
    curves = [family.rows for family in families(sweep.rows)]
    priced = [row for rows in curves if bits_vary([row.bits_per_image for row in rows]) for row in rows]
    figures = [
        Figure(
            "ap-bits",
            "Accuracy against bits",
            "Of two points at one height, the one further left needs fewer bits. Only distortions whose strength "
            "changes the bits; clean AP is dashed.",
            _traces(sweep, priced, lambda row: row.bpp),
            {"xaxis": axis("bits per pixel of the original picture", type="log", dtick=1), "yaxis": axis(ap)},
        ),
        Figure(
            "ap-psnr-f",
            "Accuracy against what the heads get",
            "PSNR[F] compares the pyramid that reaches the heads with the clean one, in both domains: at the same "
            "PSNR[F], the errors of the higher curve hurt less.",
            _traces(sweep, sweep.rows, lambda row: row.fidelity.get("psnr_f")),
            {"xaxis": axis("PSNR[F] dB"), "yaxis": axis(ap)},
        ),
        Figure(
            "ap-psnr-sent",
            "Accuracy against damage to what is sent",
            "PSNR of what crosses the link, features ([F]) or pixels ([I]), both on 0..255: at the same PSNR, the "
            "domain of the higher curve stands the same distortion better.",
            _traces(sweep, sweep.rows, lambda row: row.fidelity.get("psnr_f" if row.domain == "feature" else "psnr_i")),
            {"xaxis": axis("PSNR of what is sent, dB"), "yaxis": axis(ap)},
        ),
    ]
    return [_with_clean_line(sweep, figure) for figure in figures if figure.traces]


def paper_figure(sweep: Sweep) -> Figure | None:
    """Our retention against the paper's, one point per row; None if the sweep has none of its rows."""
    traces = []
    for symbol, (key, title) in zip(SYMBOLS, TABLES.items(), strict=False):
        for domain in DOMAINS:
            points = [
                (paper.retention, kept, row)
                for name, paper in paper_rows().items()
                if name.startswith(f"paper.{key}.{domain}.")
                and (row := sweep.by_id.get(name)) is not None
                and (kept := sweep.retention(row)) is not None
            ]
            if points:
                traces.append(
                    {
                        "mode": "markers",
                        "x": [100 * theirs for theirs, _, _ in points],
                        "y": [100 * ours for _, ours, _ in points],
                        "text": [f"{NAMES[domain]}: {label(row)}" for _, _, row in points],
                        "hovertemplate": "%{text}<br>paper %{x:.1f} %, ours %{y:.1f} %<extra></extra>",
                        **_style(domain, title, symbol),
                    }
                )
    if not traces:
        return None
    diagonal = {"type": "line", "x0": 0, "y0": 0, "x1": 105, "y1": 105, "layer": "below"}
    layout = {
        "xaxis": axis("paper's retention %", range=[0, 105]),
        "yaxis": axis("our retention %", rangemode="tozero"),
        "shapes": [diagonal | {"line": {"color": colour("muted"), "dash": "dash", "width": 1}}],
    }
    caption = "One point per row of the paper's tables. On the dashed line, both keep the same share of the clean AP."
    return Figure("paper", "Retention, ours against the paper's", caption, _with_legend(traces), layout)


def _traces(sweep: Sweep, rows: Sequence[Row], x: Callable[[Row], float | None]) -> list[dict[str, Any]]:
    """One curve per family of several strengths, and one set of markers per domain for all other rows."""
    found = [family for family in families(rows) if len(family.rows) > 1]
    order = list(registry.steps())
    names = list(dict.fromkeys(family.name for family in sorted(found, key=lambda one: order.index(one.type))))
    alone = {row.id for row in rows if not row.clean} - {row.id for family in found for row in family.rows}
    traces = []
    for symbol, name in zip(cycle(SYMBOLS), names, strict=False):
        for family in found:
            if family.name == name and (points := _points(sweep, family.rows, x)):
                line = {"mode": "lines+markers", "line": {"color": colour(family.domain), "width": 2}}
                traces.append({**line, **points, **_style(family.domain, name, symbol)})
    for domain in DOMAINS:
        single = [row for row in rows if row.id in alone and row.domain == domain]
        if points := _points(sweep, single, x):
            traces.append({"mode": "markers", **points, **_style(domain, "others", "asterisk-open")})
    return _with_legend(traces)


def _points(sweep: Sweep, rows: Sequence[Row], x: Callable[[Row], float | None]) -> dict[str, Any]:
    points = [
        (position, ap, row) for row in rows if (position := x(row)) is not None and (ap := sweep.ap(row)) is not None
    ]
    if not points:
        return {}
    return {
        "customdata": [row.id for _, _, row in points],
        "x": [position for position, _, _ in points],
        "y": [100 * ap for _, ap, _ in points],
        "text": [
            f"{NAMES[row.domain]}: {label(row)}<br>{kilobytes(row)} kB, keeps {percent(sweep.retention(row))} %"
            f"<br>AP {with_interval(percent(ap), sweep.interval(row))}"
            for _, ap, row in points
        ],
        "hovertemplate": "%{text} at %{x:.4g}<extra></extra>",
        **error_bars([(ap, sweep.interval(row)) for _, ap, row in points]),
    }


def _style(domain: str, name: str, symbol: str) -> dict[str, Any]:
    line = {"width": 1, "color": colour(domain)}
    marker = {"symbol": symbol, "size": 9, "color": colour(domain), "line": line}
    return {"type": "scatter", "name": name, "legendgroup": name, "showlegend": False, "marker": marker}


def _with_legend(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One neutral entry per name: colour tells the domain, the symbol all else."""
    entries: dict[str, dict[str, Any]] = {}
    for trace in traces:
        marker = trace["marker"] | {"color": colour("muted"), "line": {"width": 1, "color": colour("muted")}}
        entry = {"mode": "markers", "x": [None], "y": [None], "showlegend": True, "marker": marker}
        entries.setdefault(
            trace["name"], {"type": "scatter", "name": trace["name"], "legendgroup": trace["name"], **entry}
        )
    return [*entries.values(), *traces]


def _with_clean_line(sweep: Sweep, figure: Figure) -> Figure:
    lines = []
    for domain in DOMAINS:
        clean = sweep.clean(domain)
        ap = None if clean is None else sweep.ap(clean)
        if ap is not None:
            style = {"color": colour(domain), "dash": "dash", "width": 1}
            ends = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 100 * ap, "y1": 100 * ap}
            lines.append({**ends, "line": style, "layer": "below"})
    return replace(figure, layout={**figure.layout, "shapes": lines})
