"""Curves of accuracy against rate or fidelity: as plots, as BD-rates, and read off at equal cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import numpy as np

from featlink.paper import TABLES, paper_rows
from featlink.report.sweep import DOMAINS, Family, Sweep, families, label, pair_name, pairs
from featlink.report.table import MISSING, Column, Table, kilobytes, number, percent, signed, with_interval
from featlink.results import Row
from featlink.shared.conditions import registry
from featlink.shared.evaluation.coco_metrics import Floats
from featlink.shared.evaluation.confidence_intervals import Interval, interval

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


def error_bars(points: Sequence[tuple[float, Interval | None]], scale: float = 100) -> dict[str, Any]:
    """Intervals of points as a trace's error bars; nothing where no point has one.

    Args:
        points: value and interval of each.
        scale: what they are shown multiplied by.

    Example:
        >>> error_bars([(0.5, (0.25, 0.75)), (0.5, None)])["error_y"]["arrayminus"]
        [25.0, 0.0]
    """
    if not any(ends for _, ends in points):
        return {}
    above = [0.0 if ends is None else scale * (ends[1] - value) for value, ends in points]
    below = [0.0 if ends is None else scale * (value - ends[0]) for value, ends in points]
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    return {"error_y": {**bars, "thickness": 1, "width": 2}}


Points = Sequence[tuple[float, float]]
Position = Callable[[Row], float | None]
"""Where a row stands on a curve: its rate, or its PSNR."""


def bits(row: Row) -> float:
    """Bits an image."""
    return row.bits_per_image


def bits_per_pixel(row: Row) -> float:
    """Bits a pixel of the original picture."""
    return row.bpp


def psnr_f(row: Row) -> float | None:
    """PSNR of the features that the heads get; None where they are unchanged."""
    return row.fidelity.get("psnr_f")


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy against a position, such as the rate.

    Attributes:
        name: what it is called.
        points: (position, accuracy in 0..1), by rising position.
        draws: position and accuracy of every point in each bootstrap draw, (B, P) each; None where there are no draws.
        rows: the conditions behind the points; none for a curve of others.
    """

    name: str
    points: Points
    draws: tuple[Floats, Floats] | None = None
    rows: Sequence[Row] = ()

    def at(self, position: float) -> tuple[float, Floats | None]:
        """Accuracy at a position within the curve, linear between its points, and the same in each draw.

        Draws hold the position fixed.
        """
        x, y = np.array(self.points).T
        if self.draws is None:
            return float(np.interp(position, x, y)), None
        shares = np.array([np.interp(position, x, unit) for unit in np.eye(len(x))])
        return float(np.interp(position, x, y)), self.draws[1] @ shares


def curve(sweep: Sweep, name: str, rows: Iterable[Row], position: Position = bits, kind: str | None = None) -> Curve:
    """The curve of some rows of a sweep; rows without AP or position are left out.

    Args:
        sweep: theirs.
        name: of the curve.
        rows: one per strength.
        position: of a row.
        kind: whose AP; default: the leading one.
    """
    known = [
        (x, ap, row) for row in rows if (x := position(row)) is not None and (ap := sweep.ap(row, kind)) is not None
    ]
    known.sort(key=lambda point: point[0])
    drawn = [(sweep.bits_draws(row), sweep.draws(row, kind)) for _, _, row in known]
    draws = None
    if drawn and all(rate is not None and ap is not None and len(ap) for rate, ap in drawn):
        rates, aps = (np.stack(side, axis=1) for side in zip(*drawn, strict=True))
        factor = [x / row.bits_per_image if row.bits_per_image else 1.0 for x, _, row in known]
        draws = rates * factor, aps
    return Curve(name, [(x, ap) for x, ap, _ in known], draws, [row for _, _, row in known])


LEAST_POINTS = 3
"""Points a curve needs for a BD-rate. VCEG-M33 uses four; the paper's tables have three."""

_MOST = 0.5
_SAME_BITS = 1.02  # two conditions of the same bits differ by some bytes of header


@dataclass(frozen=True)
class BdRate:
    """Bjøntegaard delta rate, if it is defined.

    Attributes:
        percent: average difference of rate at equal accuracy; -50 is half the bits. None if not defined.
        reason: why it is not defined.
        points: how many points of the anchor's and of the test's curve were used.
        overlap: share of both curves' range of accuracy that both have.
        interval: 95 % bootstrap interval of ``percent`` over images; None without draws, or where it is not defined
            in more than a tenth of them.
    """

    percent: float | None
    reason: str
    points: tuple[int, int]
    overlap: float = 0.0
    interval: Interval | None = None

    def __str__(self) -> str:
        if self.percent is None:
            return f"not defined: {self.reason}"
        return with_interval(f"{signed(self.percent)} %", self.interval, 1)

    @property
    def share(self) -> str:
        """``overlap`` in percent."""
        return MISSING if self.percent is None else percent(self.overlap, 0)


def bd_rate(anchor: Points, test: Points, least: int = LEAST_POINTS) -> BdRate:
    """Bjøntegaard delta rate by piecewise cubic (PCHIP) interpolation, with the ``bjontegaard`` package.

    A curve is its Pareto front: a point that costs more bits than another for no more accuracy is left out, since
    rate must be a function of accuracy.

    Args:
        anchor: (bits, accuracy) points of the reference.
        test: of what is compared with it.
        least: how many points each front needs.

    Example:
        >>> bd_rate([(100, 1), (200, 2), (400, 3)], [(50, 1), (100, 2), (200, 3)]).percent
        -50.0
        >>> bd_rate([(100, 1), (200, 2), (400, 3)], [(50, 4), (100, 5), (200, 6)]).reason
        'the curves share no accuracy'
    """
    (rate_a, accuracy_a), (rate_t, accuracy_t) = (_front(*np.array(side).reshape(-1, 2).T) for side in (anchor, test))
    counts = (len(rate_a), len(rate_t))
    if not all(bits_vary([rate for rate, _ in points]) for points in (anchor, test)):
        return BdRate(None, "bits do not change with the strength", counts)
    if min(counts) < least:
        return BdRate(None, f"{counts[0]} and {counts[1]} points on the Pareto fronts, {least} are needed", counts)
    low, high = max(accuracy_a[0], accuracy_t[0]), min(accuracy_a[-1], accuracy_t[-1])
    if low >= high:
        return BdRate(None, "the curves share no accuracy", counts)
    import bjontegaard  # loads matplotlib

    try:
        value = bjontegaard.bd_rate(
            rate_a, accuracy_a, rate_t, accuracy_t, method="pchip", require_matching_points=False, min_overlap=0
        )
    except ValueError:  # SciPy's answer to a slope beyond all numbers
        value = math.nan
    if not np.isfinite(value):
        return BdRate(None, "two accuracies of a front are too close to interpolate between", counts)
    span = max(accuracy_a[-1], accuracy_t[-1]) - min(accuracy_a[0], accuracy_t[0])
    return BdRate(float(value), "", counts, float((high - low) / span))


def bits_vary(bits: Sequence[float]) -> bool:
    """Whether bits change by more than headers do.

    Example:
        >>> bits_vary([8_000_100, 8_000_180]), bits_vary([8_000_000, 4_000_000]), bits_vary([])
        (False, True, False)
    """
    return bool(bits) and max(bits) > _SAME_BITS * min(bits)


def compare(anchor: Curve, test: Curve, least: int = LEAST_POINTS, least_of_draws: int | None = None) -> BdRate:
    """:func:`bd_rate` of two curves, with its interval: each draw has its own AP and bits, of the same images.

    Args:
        anchor: the reference.
        test: what is compared with it.
        least: how many points each front needs.
        least_of_draws: in a draw, where chance may put points off the front; default: as many.
    """
    found = bd_rate(anchor.points, test.points, least)
    count = max((len(one.draws[0]) for one in (anchor, test) if one.draws is not None), default=0)
    if found.percent is None or not count:
        return found
    of_anchor, of_test = (
        np.tile(np.array(one.points).T[:, None], (1, count, 1)) if one.draws is None else np.array(one.draws)
        for one in (anchor, test)
    )
    return replace(found, interval=interval(bd_of_draws(of_anchor, of_test, least_of_draws or least)))


def bd_of_draws(anchor: Floats, test: Floats, least: int) -> Floats:
    """:func:`bd_rate` in percent of every draw, all at once (SciPy's PCHIP takes one at a time).

    Args:
        anchor: (2, B, P), bits and accuracy of the reference's points; NaN where a draw lacks a point.
        test: (2, B, Q).
        least: how many points each front needs, 2 or more.

    Returns:
        (B,), NaN where it is not defined.
    """
    fronts = [[_front(*draw) for draw in side.swapaxes(0, 1)] for side in (anchor, test)]
    ends = np.full((2, len(fronts[0])), np.nan)
    for b, (a, t) in enumerate(zip(*fronts, strict=True)):
        if min(len(a[0]), len(t[0])) >= least:
            low, high = max(a[1][0], t[1][0]), min(a[1][-1], t[1][-1])
            ends[:, b] = (low, high) if low < high else np.nan
    means = [_mean_log_rate(side, *ends) for side in fronts]
    values: Floats = 100 * (10 ** (means[1] - means[0]) - 1)
    return values


def _front(bits: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """By rising bits, only points more accurate than all cheaper ones."""
    order = np.lexsort((-accuracy, bits))
    bits, accuracy = bits[order], accuracy[order]
    there = ~np.isnan(accuracy)
    bits, accuracy = bits[there], accuracy[there]
    best = np.maximum.accumulate(accuracy)
    kept = np.append(True, accuracy[1:] > best[:-1])[: len(bits)]
    return bits[kept], accuracy[kept]


def _mean_log_rate(fronts: Sequence[tuple[Floats, Floats]], low: Floats, high: Floats) -> Floats:
    """Mean of log10 of the rate over the accuracies from ``low`` to ``high``, (B,), by PCHIP.

    Both rise along a front, so Fritsch and Butland's (1984) slopes are harmonic means, and those of the ends
    three-point differences that are not below 0.
    """
    means = np.full(len(fronts), np.nan)
    sizes = np.array([len(rate) for rate, _ in fronts])
    for size in set(sizes[~np.isnan(low)].tolist()):
        here = (sizes == size) & ~np.isnan(low)
        x = np.array([accuracy for (_, accuracy), there in zip(fronts, here, strict=True) if there])
        y = np.log10([rate for (rate, _), there in zip(fronts, here, strict=True) if there])
        h = np.diff(x)
        delta = np.diff(y) / h
        slopes = np.repeat(delta[:, :1], size, axis=1)
        if size > 2:
            before, after = 2 * h[:, 1:] + h[:, :-1], h[:, 1:] + 2 * h[:, :-1]
            slopes[:, 1:-1] = (before + after) / (before / delta[:, :-1] + after / delta[:, 1:])
            for end, one, two in ((0, 0, 1), (-1, -1, -2)):
                slope = (2 * h[:, one] + h[:, two]) * delta[:, one] - h[:, one] * delta[:, two]
                slopes[:, end] = np.maximum(0, slope / (h[:, one] + h[:, two]))
        cubic = (slopes[:, :-1] + slopes[:, 1:] - 2 * delta) / h**2
        square = (3 * delta - 2 * slopes[:, :-1] - slopes[:, 1:]) / h
        bounds = [np.clip(end[here, None], x[:, :-1], x[:, 1:]) - x[:, :-1] for end in (low, high)]
        below, up_to = (s * (y[:, :-1] + s * (slopes[:, :-1] / 2 + s * (square / 3 + s * cubic / 4))) for s in bounds)
        means[here] = (up_to - below).sum(axis=1) / (high - low)[here]
    return means


def at_equal(feature: Points, image: Points) -> tuple[float, ...]:
    """The least, middle and greatest position that two curves share; none where they share no stretch.

    Example:
        >>> at_equal([(0, 0), (10, 10)], [(5, 0), (20, 30)])
        (5, 7.5, 10)
    """
    positions = [[x for x, _ in points] for points in (feature, image)]
    if any(len(one) < 2 for one in positions):
        return ()
    low, high = max(map(min, positions)), min(map(max, positions))
    return (low, (low + high) / 2, high) if low < high else ()


def rate_pairs(sweep: Sweep) -> list[tuple[Family, Family]]:
    """Pairs of families whose strength trades bits for accuracy, with more than one strength in each."""
    return [
        pair for pair in pairs(sweep.families) if pair[0].changes_bits and all(len(family.rows) > 1 for family in pair)
    ]


def bd_of_pair(sweep: Sweep, pair: tuple[Family, Family], kind: str | None = None) -> BdRate:
    """BD-rate of features against the image."""
    feature, image = (curve(sweep, family.name, family.rows, kind=kind) for family in pair)
    return compare(image, feature)


def bd_findings(sweep: Sweep) -> list[str]:
    """BD-rates in words: one sentence per family whose curves share most of their accuracies."""
    findings = []
    for pair in rate_pairs(sweep):
        result = bd_of_pair(sweep, pair)
        if result.percent is not None and result.overlap >= _MOST:
            difference = f"{abs(result.percent):,.0f} % {'more' if result.percent > 0 else 'fewer'} bits"
            few = "" if min(result.points) > LEAST_POINTS else f", of {LEAST_POINTS} points: indicative"
            ends = result.interval
            sure = "" if ends is None else f", 95 % interval {signed(ends[0], 0)} to {signed(ends[1], 0)} %"
            findings.append(f"{pair_name(*pair)}: at equal AP, features need {difference} (BD-rate{sure}{few}).")
    return findings


def bd_table(sweep: Sweep) -> Table | None:
    """BD-rate of features against the image, by family and kind of AP; None where there is no such family."""
    rows = []
    for pair in rate_pairs(sweep):
        for kind in sweep.kinds:
            result = bd_of_pair(sweep, pair, kind)
            points = f"{result.points[0]} / {result.points[1]}"
            rows.append([pair_name(*pair), kind, str(result), points, result.share])
    if not rows:
        return None
    columns = [Column(title, number=False) for title in ("family", "AP", "BD-rate of features")]
    note = (
        "Average difference of bits at equal AP; −50 % means that features need half the image's bits. PCHIP through "
        f"the Pareto front of each curve, at least {LEAST_POINTS} points; VCEG-M33 uses four, so values of three are "
        f"indicative. In brackets, the 95 % bootstrap interval over {sweep.over}. Overlap: share of the range of AP "
        "that both curves cover."
    )
    caption = "BD-rate (Bjøntegaard): features against the image at equal AP"
    return Table(caption, [*columns, Column("points image / features"), Column("overlap %")], rows, (note,))


def equal_bits_table(sweep: Sweep) -> Table | None:
    """AP of both domains where they cost the same bits, by family; None where no two curves share a rate."""
    found = [
        pair for pair in rate_pairs(sweep) if all(bits_vary([row.bits_per_image for row in one.rows]) for one in pair)
    ]
    caption = "AP at equal bits, linear in log bits between the measured strengths"
    return _equal_table(
        sweep, found, caption, "kB per image", lambda row: math.log10(row.bits_per_image), lambda x: 10**x / 8000
    )


def equal_psnr_table(sweep: Sweep) -> Table | None:
    """AP of both domains where the heads get pyramids of the same PSNR[F]; None where no two curves share one."""
    caption = "AP at equal PSNR[F] of what the heads get, linear between the measured strengths"
    return _equal_table(sweep, pairs(sweep.families), caption, "PSNR[F] dB", psnr_f, lambda x: x)


def _equal_table(
    sweep: Sweep,
    found: Iterable[tuple[Family, Family]],
    caption: str,
    title: str,
    position: Position,
    shown: Callable[[float], float],
) -> Table | None:
    rows = []
    for pair in found:
        both = [curve(sweep, family.name, family.rows, position) for family in pair]
        for x in at_equal(*(one.points for one in both)):
            (feature, drawn_feature), (image, drawn_image) = (one.at(x) for one in both)
            less = None if drawn_feature is None or drawn_image is None else interval(drawn_feature - drawn_image)
            ends = [None if one is None else interval(one) for one in (drawn_feature, drawn_image)]
            texts = [percent(feature), percent(image), signed(100 * (feature - image))]
            aps = [with_interval(text, end) for text, end in zip(texts, [*ends, less], strict=True)]
            rows.append([pair_name(*pair), number(shown(x), 1), *aps])
    if not rows:
        return None
    columns = [Column("family", number=False), Column(title)]
    columns += [Column(name, f"AP {sweep.kind} %") for name in ("feature", "image", "difference")]
    return Table(caption, columns, rows, ("The ends and the middle of the stretch that both domains' curves cover.",))


def curve_figures(sweep: Sweep) -> list[Figure]:
    """AP against bits and PSNR, and other evaluators' figures against bits; a plot without points is left out."""
    ap = f"AP {sweep.kind} %"
    priced = [
        row
        for family in sweep.families
        if bits_vary([row.bits_per_image for row in family.rows]) or (len(family.rows) == 1 and family.changes_bits)
        for row in family.rows
    ]
    rate = axis("bits per pixel of the original picture", type="log", dtick=1)
    figures = [
        Figure(
            "ap-bits",
            "Accuracy against bits",
            "Of two points at one height, the one further left needs fewer bits. Only distortions whose strength "
            "changes the bits; clean AP is dashed.",
            _traces(sweep, priced, bits_per_pixel),
            {"xaxis": rate, "yaxis": axis(ap)},
        ),
        Figure(
            "ap-psnr-f",
            "Accuracy against what the heads get",
            "PSNR[F] compares the pyramid that reaches the heads with the clean one, in both domains: at the same "
            "PSNR[F], the errors of the higher curve hurt less.",
            _traces(sweep, sweep.rows, psnr_f),
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
    figures = [_with_clean_line(sweep, figure) for figure in figures]
    for one in sweep.measures:
        title = f"{one.label[:1].upper()}{one.label[1:]} against bits"
        layout = {"xaxis": rate, "yaxis": axis(f"{one.label} {one.unit}".strip())}
        traces = _traces(sweep, priced, bits_per_pixel, one.group)
        caption = "Another evaluator's figure of the same conditions."
        figures.append(Figure(f"{one.group}-bits", title, caption, traces, layout))
    return [figure for figure in figures if figure.traces]


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


def _traces(sweep: Sweep, rows: Sequence[Row], x: Position, kind: str | None = None) -> list[dict[str, Any]]:
    """One curve per family of several strengths, and one set of markers per domain for all other rows."""
    found = [family for family in families(rows) if len(family.rows) > 1]
    order = list(registry.steps())
    names = list(dict.fromkeys(family.name for family in sorted(found, key=lambda one: order.index(one.type))))
    alone = {row.id for row in rows if not row.clean} - {row.id for family in found for row in family.rows}
    drawn = [
        (family.domain, symbol, "lines+markers", curve(sweep, name, family.rows, x, kind))
        for symbol, name in zip(cycle(SYMBOLS), names, strict=False)
        for family in found
        if family.name == name
    ]
    for domain in DOMAINS:
        single = [row for row in rows if row.id in alone and row.domain == domain]
        drawn.append((domain, "asterisk-open", "markers", curve(sweep, "others", single, x, kind)))
    return _with_legend(
        [
            {
                **_style(domain, one.name, symbol),
                **points(sweep, one, NAMES[domain], kind),
                "mode": mode,
                "line": {"color": colour(domain), "width": 2},
            }
            for domain, symbol, mode, one in drawn
            if one.points
        ]
    )


def points(sweep: Sweep, one: Curve, name: str, kind: str | None = None) -> dict[str, Any]:
    """A curve's points as part of a trace, with intervals and a text for each.

    Args:
        sweep: of its rows.
        one: the curve, of ours or of others.
        name: what its points are called.
        kind: the group of the figure that it shows; default: the leading AP.
    """
    scale = next((measure.scale for measure in sweep.measures if measure.group == kind), 100)
    ends = [(y, sweep.interval(row, kind)) for row, (_, y) in zip(one.rows, one.points, strict=False)]
    texts = [
        f"{name}: {label(row)}<br>{kilobytes(row)} kB, keeps {percent(sweep.retention(row))} %"
        f"<br>AP {sweep.ap_text(row)}"
        for row in one.rows
    ]
    return {
        "customdata": [row.id for row in one.rows],
        "x": [x for x, _ in one.points],
        "y": [scale * y for _, y in one.points],
        "text": texts or [f"{name}<br>AP {percent(ap)}" for _, ap in one.points],
        "hovertemplate": "%{text} at %{x:.4g}<extra></extra>",
        **error_bars(ends, scale),
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
