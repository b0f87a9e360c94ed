"""Where to cut: sweeps of one network at several split points, compared and ranked together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import msgspec
import numpy as np

from featlink.costs import of_row
from featlink.deciding.choice import winners_table
from featlink.deciding.decision import REPORT_RATES, Decision, decide, decision_table
from featlink.deciding.query import Query, make_query
from featlink.deciding.ranking import Candidate, Option, front, ranked, too_close
from featlink.errors import CommandError
from featlink.report.curves import SYMBOLS, Figure, axis, colour, error_bars
from featlink.report.html import Page, Section
from featlink.report.sweep import Sweep, about
from featlink.report.table import MISSING, Column, Table, kilobytes, number, percent
from featlink.report.timing import spent
from featlink.shared.fpn import PYRAMID, SPLITS


def split_of(sweep: Sweep) -> str:
    """Where a sweep's network was cut."""
    return about(sweep).split or PYRAMID


def in_order(sweeps: Sequence[Sweep]) -> list[Sweep]:
    """Sweeps of one network at different split points, the earliest first.

    Raises:
        CommandError: they are of different networks, data or images, or two are of one split point.
    """
    order = [*SPLITS]
    sweeps = sorted(sweeps, key=lambda one: order.index(split_of(one)) if split_of(one) in order else len(order))
    names = [split_of(one) for one in sweeps]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CommandError(f"two of these sweeps are cut at {twice}; several folders are for several split points")
    first = sweeps[0]
    for other in sweeps[1:]:
        for name in ("model", "identity", "profile", "dataset", "images"):
            one, two = (getattr(about(sweep), name) for sweep in (first, other))
            if one != two:
                raise CommandError(f"{first.folder} and {other.folder} cannot be compared: {name} {one} and {two}")
    return sweeps


@dataclass(frozen=True)
class CutCandidate(Candidate):
    """A candidate of one of several sweeps; its row's id begins with the split.

    Attributes:
        split: where the network is cut.
        called: its chain as text.
    """

    split: str = ""
    called: str = ""

    @property
    def name(self) -> str:
        """See the base class."""
        return self.called


class CutDecision(Decision):
    """What to send, and where to cut."""

    def figures(self, option: Option) -> str:
        """See the base class."""
        return f"{cut(option)}{super().figures(option)}"


def cut(option: Option) -> str:
    """Where an option cuts, as a sentence goes on; pixels are not cut."""
    return f"cut at {_split(option)}, " if option.candidate.row.domain == "feature" else ""


def decide_cut(sweeps: Sequence[Sweep], query: Query) -> CutDecision:
    """Which of several sweeps' conditions to send over a link, and so where to cut the network.

    Args:
        sweeps: of :func:`in_order`. Pixels are the same at every split point, and taken from the first.
        query: the question.

    Raises:
        CommandError: a sweep has no samples or no times, or they are not of the same images.
    """
    decisions = [decide(sweep, query, crossings=False) for sweep in sweeps]
    images = [sweep.samples.images for sweep in sweeps if sweep.samples is not None]
    if not all(np.array_equal(one, images[0]) for one in images):
        raise CommandError("these sweeps are not of the same images")
    options = [
        replace(one, candidate=_placed(one.candidate, split_of(sweep)))
        for sweep, decision in zip(sweeps, decisions, strict=True)
        for one in decision.options
        if sweep is sweeps[0] or one.candidate.row.domain == "feature"
    ]
    options = ranked(options, query)
    rivals = {one.candidate.row.id for one in options[1:] if options[0].meets and too_close(options[0], one, query)}
    overlapped = any(decision.overlapped for decision in decisions)
    first = decisions[0]
    return CutDecision(query, first.kind, options, front(options), rivals, overlapped, [], first.of_clips)


def cut_table(decision: CutDecision, most: int | None = None) -> Table:
    """The ranked options with their split points; see :func:`featlink.deciding.decision.decision_table`."""
    table = decision_table(decision, most)
    rows = [[_split(one), *cells] for one, cells in zip(decision.options, table.rows, strict=False)]
    return replace(table, columns=[Column("cut", number=False), *table.columns], rows=rows)


def conditions_table(sweeps: Sequence[Sweep]) -> Table:
    """Every row of every sweep: where it is cut, what it costs on both sides and on the link, and its AP."""
    columns = [Column("cut", number=False), Column("condition", number=False), Column("domain", number=False)]
    columns += [Column(f"AP {sweeps[0].kind} %"), Column("kept %"), Column("kB"), Column("PSNR[F] dB")]
    columns += [Column(title, "10⁹ multiply-adds") for title in ("edge", "cloud")]
    columns += [Column(title, "ms") for title in ("edge", "cloud")]
    lines = []
    for sweep in sweeps:
        found = sweep.manifest.get("multiply_adds") or {}
        for row in sweep.rows:
            if row.domain == "image" and sweep is not sweeps[0]:
                continue
            place = split_of(sweep) if row.domain == "feature" else MISSING
            counted = of_row(found, row.id, row.domain)
            cells = [place, sweep.names[row.id], row.domain, sweep.ap_text(row), percent(sweep.retention(row))]
            cells += [kilobytes(row), number(row.fidelity.get("psnr_f"), 2)]
            cells += [MISSING, MISSING] if counted is None else [number(one / 1e9, 1) for one in counted]
            lines.append([*cells, number(spent(row, "edge"), 0), number(spent(row, "cloud"), 0)])
    notes = (
        "An image on average. The earlier the cut, the less the edge computes. Multiply-adds are those of the dense "
        "network, the same on every machine; milliseconds are this one's, coding included. Pixels need no cut: the "
        "cloud runs the whole network.",
    )
    return Table("Every condition at every split point", columns, lines, notes)


def splits_page(sweeps: Sequence[Sweep]) -> Page:
    """A report of several split points."""
    facts = [(what, value) for what, value in about(sweeps[0]).facts if what not in ("Command", "Date")]
    facts += [("Sweeps", ", ".join(f"{split_of(one)}: {one.folder}" for one in sweeps))]
    blocks: list[str | Table] = []
    try:
        decisions = [decide_cut(sweeps, make_query(rate=rate)) for rate in REPORT_RATES]
    except CommandError as error:
        blocks.append(f"Left out: {error}")
    else:
        blocks += [*(decision.sentence for decision in decisions), _winners(decisions)]
    sections = [
        Section("cut", "Where to cut", "The fastest way to keep 95 % of the clean AP over some links.", blocks),
        Section("conditions", "All conditions", "", [_figure(sweeps), conditions_table(sweeps)]),
    ]
    statement = about(sweeps[0]).statement
    return Page("Where to cut the network", "", statement, facts, [], sections)


def _winners(decisions: Sequence[CutDecision]) -> Table:
    def figures(best: Option) -> list[str]:
        times = (best.latency_ms, best.edge_ms, best.link_ms, best.cloud_ms)
        return [_split(best), kilobytes(best.candidate.row), *(number(ms, 0) for ms in times)]

    columns = [Column("cut", number=False), Column("kB")]
    columns += [Column(title, "ms an image") for title in ("all", "edge", "link", "cloud")]
    notes = decisions[0].notes("Both machines as measured.")
    by_rate = list(zip(REPORT_RATES, decisions, strict=True))
    return winners_table("Where to cut, by link rate", by_rate, columns, figures, notes)


def _figure(sweeps: Sequence[Sweep]) -> Figure:
    """AP against bits, one set of markers for each split point and one for pixels."""
    kinds = [(split_of(sweep), sweep, "feature") for sweep in sweeps] + [("pixels", sweeps[0], "image")]
    traces = []
    for symbol, (name, sweep, domain) in zip(cycle(SYMBOLS), kinds, strict=False):
        shown = [(row, ap) for row in sweep.rows if row.domain == domain and (ap := sweep.ap(row)) is not None]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [row.bpp for row, _ in shown],
                "y": [100 * ap for _, ap in shown],
                "text": [f"{name}: {sweep.names[row.id]}<br>{kilobytes(row)} kB" for row, _ in shown],
                "hovertemplate": "%{text}<br>AP %{y:.1f}<extra></extra>",
                "marker": {"symbol": symbol, "size": 9, "color": colour(domain)},
                **error_bars([(ap, sweep.interval(row)) for row, ap in shown]),
            }
        )
    rate = axis("bits per pixel of the original picture", type="log", dtick=1)
    layout = {"xaxis": rate, "yaxis": axis(f"AP {sweeps[0].kind} %")}
    caption = "Of two points at one height, the one further left needs fewer bits; hover for its condition."
    return Figure("cut-bits", "Accuracy against bits, by split point", caption, traces, layout)


def _placed(candidate: Candidate, split: str) -> CutCandidate:
    row = candidate.row
    name = f"{split}: {row.id}" if row.domain == "feature" else row.id
    return CutCandidate(
        **vars(candidate) | {"row": msgspec.structs.replace(row, id=name)}, split=split, called=candidate.name
    )


def _split(option: Option) -> str:
    candidate = option.candidate
    return candidate.split if isinstance(candidate, CutCandidate) and candidate.row.domain == "feature" else MISSING
