"""Plots as data for Plotly.js, coloured by the page's theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import numba
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


LEAST_POINTS = 3
"""Points a curve needs. VCEG-M33 uses four; the paper's tables have three."""

_SAME_BITS = 1.02  # two conditions of the same bits differ by some bytes of header


@dataclass(frozen=True)
class BdRate:
    """Bjøntegaard delta rate, if it is defined.

    Attributes:
        percent: average difference of rate at equal accuracy; -50 is half the bits. None if not defined.
        reason: why it is not defined.
        points: how many points of the anchor's and of the test's curve were used.
        overlap: share of both curves' range of accuracy that both have.
    """

    percent: float | None
    reason: str
    points: tuple[int, int]
    overlap: float = 0.0


def bd_rate(anchor: Points, test: Points, least: int = LEAST_POINTS) -> BdRate:
    """Bjøntegaard delta rate by piecewise cubic (PCHIP) interpolation, with the ``bjontegaard`` package.

    A curve is its Pareto front: a point that costs more bits than another for no more accuracy is left out, since
    rate must be a function of accuracy.

    Args:
        anchor: (bits, accuracy) points of the reference.
        test: of what is compared with it.
        least: how many points each front needs.

    Example:
        >>> bd_rate([(100, 1), (200, 2), (400, 3)], [(50, 1), (100, 2), (200, 3)])
        BdRate(percent=-50.0, reason='', points=(3, 3), overlap=1.0)
        >>> bd_rate([(100, 1), (200, 2), (400, 3)], [(50, 4), (100, 5), (200, 6)]).reason
        'the curves share no accuracy'
    """
    fronts = [_front(anchor), _front(test)]
    counts = (len(fronts[0]), len(fronts[1]))
    if not all(bits_vary([bits for bits, _ in points]) for points in (anchor, test)):
        return BdRate(None, "bits do not change with the strength", counts)
    if min(counts) < least:
        return BdRate(None, f"{counts[0]} and {counts[1]} points on the Pareto fronts, {least} are needed", counts)
    (rate_a, accuracy_a), (rate_t, accuracy_t) = (np.array(front).T for front in fronts)
    low, high = max(accuracy_a[0], accuracy_t[0]), min(accuracy_a[-1], accuracy_t[-1])
    if low >= high:
        return BdRate(None, "the curves share no accuracy", counts)
    import bjontegaard  # loads matplotlib

    value = bjontegaard.bd_rate(
        rate_a, accuracy_a, rate_t, accuracy_t, method="pchip", require_matching_points=False, min_overlap=0
    )
    span = max(accuracy_a[-1], accuracy_t[-1]) - min(accuracy_a[0], accuracy_t[0])
    return BdRate(float(value), "", counts, float((high - low) / span))


def bits_vary(bits: Sequence[float]) -> bool:
    """Whether bits change by more than headers do.

    Example:
        >>> bits_vary([8_000_100, 8_000_180]), bits_vary([8_000_000, 4_000_000]), bits_vary([])
        (False, True, False)
    """
    return bool(bits) and max(bits) > _SAME_BITS * min(bits)


def _front(points: Points) -> list[tuple[float, float]]:
    """By rising bits, only points more accurate than all cheaper ones."""
    front: list[tuple[float, float]] = []
    for bits, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((bits, accuracy))
    return front


def bd_interval(anchor: Curve, test: Curve, least: int = LEAST_POINTS) -> Interval | None:
    """The 95 % bootstrap interval of :func:`bd_rate` over images, in percent.

    Every draw has its own AP and bits for both curves, of the same images.

    Returns:
        None without draws, or where BD-rate is not defined in more than a tenth of them.
    """
    if anchor.draws is None and test.draws is None:
        return None

    count = max(len(curve.draws[0]) for curve in (anchor, test) if curve.draws is not None)
    if not count or not all(curve.points for curve in (anchor, test)):
        return None
    (bits_a, accuracy_a), (bits_t, accuracy_t) = _drawn(anchor, count), _drawn(test, count)
    return interval(bd_of_draws(bits_a, accuracy_a, bits_t, accuracy_t, least))


def _drawn(curve: Curve, count: int) -> tuple[Floats, Floats]:
    """Bits and accuracy in each draw, (B, P) each; a curve without draws is the same in all."""
    if curve.draws is not None:
        bits, accuracy = curve.draws
        return np.ascontiguousarray(bits), np.ascontiguousarray(accuracy)
    bits, accuracy = np.array(curve.points).T
    return np.tile(bits, (count, 1)), np.tile(accuracy, (count, 1))


@numba.njit(cache=True, nogil=True)
def bd_of_draws(
    anchor_bits: Floats, anchor_accuracy: Floats, test_bits: Floats, test_accuracy: Floats, least: int
) -> Floats:
    """BD-rate in percent, as :func:`featlink.report.curves.bd_rate` defines it.

    Args:
        anchor_bits: (B, P) of the reference's points.
        anchor_accuracy: (B, P); NaN where a draw lacks a point.
        test_bits: (B, Q).
        test_accuracy: (B, Q).
        least: how many points each front needs, 2 or more.

    Returns:
        (B,), NaN where it is not defined.
    """
    values = np.full(len(anchor_bits), np.nan)
    for b in range(len(values)):
        rate_a, accuracy_a = _front_of_draw(anchor_bits[b], anchor_accuracy[b])
        rate_t, accuracy_t = _front_of_draw(test_bits[b], test_accuracy[b])
        if min(len(rate_a), len(rate_t)) < least:
            continue
        low, high = max(accuracy_a[0], accuracy_t[0]), min(accuracy_a[-1], accuracy_t[-1])
        if low >= high:
            continue
        difference = _integral(accuracy_t, np.log10(rate_t), low, high)
        difference -= _integral(accuracy_a, np.log10(rate_a), low, high)
        values[b] = 100 * (10 ** (difference / (high - low)) - 1)
    return values


@numba.njit(cache=True, nogil=True)
def _front_of_draw(bits: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """By rising bits, only points more accurate than all cheaper ones."""
    order = np.argsort(bits)
    kept_bits, kept_accuracy, count = np.empty(len(bits)), np.empty(len(bits)), 0
    for i in order:
        if np.isnan(accuracy[i]):
            continue
        if count and kept_bits[count - 1] == bits[i] and accuracy[i] > kept_accuracy[count - 1]:
            count -= 1  # of two at the same bits, the more accurate
            while count and kept_accuracy[count - 1] >= accuracy[i]:
                count -= 1
        if not count or accuracy[i] > kept_accuracy[count - 1]:
            kept_bits[count], kept_accuracy[count] = bits[i], accuracy[i]
            count += 1
    return kept_bits[:count], kept_accuracy[:count]


@numba.njit(cache=True, nogil=True)
def _slopes(x: Floats, y: Floats) -> Floats:
    """Fritsch and Butland's (1984) monotone slopes, with three-point ends."""
    n = len(x)
    h, delta = np.diff(x), np.diff(y) / np.diff(x)
    slopes = np.zeros(n)
    if n == 2:
        slopes[:] = delta[0]
        return slopes
    for k in range(1, n - 1):
        if delta[k - 1] * delta[k] > 0:
            before, after = 2 * h[k] + h[k - 1], h[k] + 2 * h[k - 1]
            slopes[k] = (before + after) / (before / delta[k - 1] + after / delta[k])
    slopes[0] = _end(h[0], h[1], delta[0], delta[1])
    slopes[-1] = _end(h[-1], h[-2], delta[-1], delta[-2])
    return slopes


@numba.njit(cache=True, nogil=True)
def _end(near: float, far: float, first: float, second: float) -> float:
    slope = ((2 * near + far) * first - near * second) / (near + far)
    if slope * first <= 0:
        return 0.0
    if first * second <= 0 and abs(slope) > 3 * abs(first):
        return 3 * first
    return slope


@numba.njit(cache=True, nogil=True)
def _integral(x: Floats, y: Floats, low: float, high: float) -> float:
    """Of the piecewise cubic from ``low`` to ``high``, which lie within ``x``."""
    slopes = _slopes(x, y)
    total = 0.0
    for k in range(len(x) - 1):
        begin, end = max(low, x[k]), min(high, x[k + 1])
        if begin >= end:
            continue
        h = x[k + 1] - x[k]
        delta = (y[k + 1] - y[k]) / h
        cubic = (slopes[k] + slopes[k + 1] - 2 * delta) / h**2
        square = (3 * delta - 2 * slopes[k] - slopes[k + 1]) / h
        for s, sign in ((end - x[k], 1.0), (begin - x[k], -1.0)):
            total += sign * s * (y[k] + s * (slopes[k] / 2 + s * (square / 3 + s * cubic / 4)))
    return total


_MOST = 0.5


def at_equal(feature: Points, image: Points) -> list[tuple[float, float, float]]:
    """Both curves' values at the least, middle and greatest position they share, linear between points.

    Args:
        feature: (position, value) points.
        image: the same.

    Returns:
        (position, feature's value, image's value); empty where the curves share no stretch of positions.

    Example:
        >>> at_equal([(0, 0), (10, 10)], [(5, 0), (20, 30)])[-1]
        (10.0, 10.0, 10.0)
    """
    curves = [np.array(sorted(points)).reshape(-1, 2).T for points in (feature, image)]
    if any(curve.shape[1] < 2 for curve in curves):
        return []
    low, high = max(curve[0, 0] for curve in curves), min(curve[0, -1] for curve in curves)
    if low >= high:
        return []
    a, b = curves
    return [(float(x), float(np.interp(x, *a)), float(np.interp(x, *b))) for x in (low, (low + high) / 2, high)]


def rate_pairs(sweep: Sweep) -> list[tuple[Family, Family]]:
    """Pairs of families whose strength trades bits for accuracy, with more than one strength in each."""
    return [pair for pair in pairs(families(sweep.rows)) if pair[0].changes_bits and _curves(pair)]


def bd_findings(sweep: Sweep) -> list[str]:
    """BD-rates in words: one sentence per family whose curves share most of their accuracies."""
    found = []
    for feature, image in rate_pairs(sweep):
        anchor, test = (family_curve(sweep, one) for one in (image, feature))
        result = bd_rate(anchor.points, test.points)
        if result.percent is not None and result.overlap >= _MOST:
            bits = f"{abs(result.percent):,.0f} % {'more' if result.percent > 0 else 'fewer'} bits"
            few = "" if min(result.points) > LEAST_POINTS else f", of {LEAST_POINTS} points: indicative"
            ends = bd_interval(anchor, test)
            sure = "" if ends is None else f", 95 % interval {signed(ends[0], 0)} to {signed(ends[1], 0)} %"
            found.append(f"{pair_name(feature, image)}: at equal AP, features need {bits} (BD-rate{sure}{few}).")
    return found


def bd_cell(anchor: Curve, test: Curve, least: int = LEAST_POINTS) -> str:
    """BD-rate with its interval, or why there is none."""
    result = bd_rate(anchor.points, test.points, least)
    if result.percent is None:
        return f"not defined: {result.reason}"
    return with_interval(f"{signed(result.percent)} %", bd_interval(anchor, test, least), 1)


def bd_table(sweep: Sweep) -> Table | None:
    """BD-rate of features against the image, by family and kind of AP; None where there is no such family."""
    rows = []
    for feature, image in rate_pairs(sweep):
        for kind in sweep.kinds:
            anchor, test = (family_curve(sweep, one, kind) for one in (image, feature))
            result = bd_rate(anchor.points, test.points)
            told = bd_cell(anchor, test)
            overlap = percent(result.overlap, 0) if result.percent is not None else MISSING
            rows.append([pair_name(feature, image), kind, told, f"{result.points[0]} / {result.points[1]}", overlap])
    if not rows:
        return None
    columns = [Column("family", number=False), Column("AP", number=False), Column("BD-rate of features", number=False)]
    notes = (
        "Average difference of bits at equal AP; −50 % means that features need half the image's bits. PCHIP through "
        f"the Pareto front of each curve, at least {LEAST_POINTS} points; VCEG-M33 uses four, so values of three are "
        "indicative. In brackets, the 95 % bootstrap interval over images. Overlap: share of the range of AP that both "
        "curves cover.",
    )
    caption = "BD-rate (Bjøntegaard): features against the image at equal AP"
    return Table(caption, [*columns, Column("points image / features"), Column("overlap %")], rows, notes)


def equal_bits_table(sweep: Sweep) -> Table | None:
    """AP of both domains where they cost the same bits, by family; None where no two curves share a rate."""
    rows = []
    for pair in rate_pairs(sweep):
        if all(bits_vary([row.bits_per_image for row in family.rows]) for family in pair):
            at = at_equal(*(_points(one, _log_bits, _ap(sweep)) for one in pair))
            rows += [
                [pair_name(*pair), number(10**x / 8000, 1), *_difference(sweep, pair, _log_bits, x, f, i)]
                for x, f, i in at
            ]
    caption = "AP at equal bits, linear in log bits between the measured strengths"
    return _equal_table(sweep, caption, "kB per image", rows)


def equal_psnr_table(sweep: Sweep) -> Table | None:
    """AP of both domains where the heads get pyramids of the same PSNR[F]; None where no two curves share one."""
    rows = []
    for pair in pairs(families(sweep.rows)):
        at = at_equal(*(_points(one, _psnr, _ap(sweep)) for one in pair))
        rows += [[pair_name(*pair), number(x, 1), *_difference(sweep, pair, _psnr, x, f, i)] for x, f, i in at]
    caption = "AP at equal PSNR[F] of what the heads get, linear between the measured strengths"
    return _equal_table(sweep, caption, "PSNR[F] dB", rows)


def _equal_table(sweep: Sweep, caption: str, position: str, rows: list[list[str]]) -> Table | None:
    if not rows:
        return None
    columns = [Column("family", number=False), Column(position)]
    columns += [Column(title, f"AP {sweep.kind} %") for title in ("feature", "image", "difference")]
    return Table(caption, columns, rows, ("The ends and the middle of the stretch that both domains' curves cover.",))


_Position = Callable[[Row], float | None]


def _log_bits(row: Row) -> float:
    return math.log10(row.bits_per_image)


def _psnr(row: Row) -> float | None:
    return row.fidelity.get("psnr_f")


def _difference(
    sweep: Sweep, pair: tuple[Family, Family], position: _Position, at: float, feature: float, image: float
) -> list[str]:
    """Both curves' AP at a position and their difference, with intervals that hold the position fixed."""
    drawn = [_drawn_at(sweep, family, position, at) for family in pair]
    ends: list[Interval | None] = [None if one is None else interval(one) for one in drawn]
    f, i = drawn
    ends.append(None if f is None or i is None else interval(f - i))
    texts = [percent(feature), percent(image), signed(100 * (feature - image))]
    return [with_interval(text, found) for text, found in zip(texts, ends, strict=True)]


def _drawn_at(sweep: Sweep, family: Family, position: _Position, at: float) -> Floats | None:
    """AP in each bootstrap draw, linear between a curve's points; None without draws."""
    places = [(x, row) for row in family.rows if (x := position(row)) is not None and sweep.ap(row) is not None]
    places.sort(key=lambda place: place[0])
    drawn = [sweep.draws(row) for _, row in places]
    if any(one is None or not len(one) for one in drawn):
        return None
    shares = [np.interp(at, [x for x, _ in places], unit) for unit in np.eye(len(places))]
    return np.stack(drawn, axis=1) @ np.array(shares)  # type: ignore[arg-type]  # none is None


def _curves(pair: tuple[Family, Family]) -> bool:
    return all(len(family.rows) > 1 for family in pair)


def _ap(sweep: Sweep, kind: str | None = None) -> Callable[[Row], float | None]:
    return lambda row: sweep.ap(row, kind)


def _points(
    family: Family, x: Callable[[Row], float | None], y: Callable[[Row], float | None]
) -> list[tuple[float, float]]:
    """A family's points, without rows that lack a value."""
    values = ((x(row), y(row)) for row in family.rows)
    return [(a, b) for a, b in values if a is not None and b is not None]


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
            if family.name == name and (points := _scatter(sweep, family.rows, x)):
                line = {"mode": "lines+markers", "line": {"color": colour(family.domain), "width": 2}}
                traces.append({**line, **points, **_style(family.domain, name, symbol)})
    for domain in DOMAINS:
        single = [row for row in rows if row.id in alone and row.domain == domain]
        if points := _scatter(sweep, single, x):
            traces.append({"mode": "markers", **points, **_style(domain, "others", "asterisk-open")})
    return _with_legend(traces)


def _scatter(sweep: Sweep, rows: Sequence[Row], x: Callable[[Row], float | None]) -> dict[str, Any]:
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
