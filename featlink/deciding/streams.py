"""The decision for a stream: what becomes of a camera's frames, coded by each condition of a sweep, over a link.

The frames are those of the sweep's clips, one clip behind another, with the bits and times that were measured of each.
:mod:`featlink.deciding.pipeline` sends them through edge, link and cloud. AP is that of the answers which are there in
time: a frame whose answer is late is judged by the newest answer that is there
(:mod:`featlink.shared.evaluation.streaming`). A sweep of stills can be taken for a stream, too: then nothing was coded
from picture to picture, and a late picture counts as not detected, since another picture's answer says nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from featlink.channel.randomness import stream
from featlink.deciding.choice import Choice, ap_text, ms, what, winners_table
from featlink.deciding.footage import Footage, open_footage
from featlink.deciding.pipeline import Frames, Loads, Timeline, loads, simulate
from featlink.deciding.query import Query, make_query
from featlink.deciding.ranking import TIMING_ERROR, Candidate, candidates, standing
from featlink.errors import CommandError
from featlink.report.sweep import Sweep
from featlink.report.table import MISSING, Column, Table, number, percent, with_interval
from featlink.report.timing import overlaps
from featlink.shared.errors import StorageError
from featlink.shared.evaluation.coco_metrics import Floats
from featlink.shared.evaluation.confidence_intervals import Interval, interval, undecided

_MOST_FRAMES = 5000
"""That are sent, unless the sweep itself has more: it is repeated to see a whole trace."""


@dataclass(frozen=True, eq=False)
class StreamOption:
    """A candidate as a stream over the link.

    Attributes:
        candidate: what is sent.
        kbps: 10³ bits per second of all frames, without packets that are sent again.
        loads: how busy it keeps edge, link and cloud.
        excess_kbps: what it sends above the link's capacity, in 10³ bits per second; 0 if that suffices.
        timelines: what becomes of the frames, each time that they are sent.
        query: the question.
        ap: of the answers in time, in 0..1.
        ap_interval: of it, over clips.
        kept: AP over the domain's clean AP, which has no deadline.
        draws: AP in each bootstrap draw.
        accurate: whether AP is good enough.
        surely: whether its interval says so too.
        possibly: whether its interval leaves that open.
    """

    candidate: Candidate
    kbps: float
    loads: Loads
    excess_kbps: float
    timelines: Sequence[Timeline]
    query: Query
    ap: float
    ap_interval: Interval | None
    kept: float | None
    draws: Floats
    accurate: bool
    surely: bool
    possibly: bool

    @cached_property
    def latency_ms(self) -> tuple[float, float]:
        """From picture to answer: the median, and what 95 % of the answers stay within."""
        return _median_and_95([one.latency_ms for one in self.timelines])

    @cached_property
    def age_ms(self) -> tuple[float, float]:
        """Age of the newest answer: the median over time, and what it stays within for 95 % of it; NaN without one."""
        return _median_and_95([one.age_ms for one in self.timelines])

    @cached_property
    def waiting(self) -> tuple[float, int]:
        """How many frames waited for the link when another joined them: on average, and at most."""
        found = np.concatenate([one.waiting for one in self.timelines])
        return float(found.mean()), int(found.max())

    @cached_property
    def dropped(self) -> float:
        """Share of the frames that the camera dropped."""
        return 1 - float(np.mean([one.sent.mean() for one in self.timelines]))

    @cached_property
    def on_time(self) -> float:
        """Share of the frames whose own answer is in time."""
        if self.query.deadline_ms is None:
            return 1 - self.dropped
        return float(np.mean([one.in_time(self.query.deadline_ms).mean() for one in self.timelines]))

    @property
    def stable(self) -> bool:
        """Whether every frame can be served, so that no backlog grows."""
        return self.loads.growth == 0

    @property
    def follows(self) -> bool:
        """Whether answers keep up with the camera, since it is stable or frames are dropped."""
        return self.stable or self.query.camera == "newest"

    @property
    def meets(self) -> bool:
        """Whether it keeps up and is good enough."""
        return self.follows and self.accurate

    @property
    def maybe(self) -> bool:
        """Whether it keeps up and is perhaps good enough."""
        return self.follows and self.possibly

    @property
    def most_fps(self) -> float:
        """Frames a second that the busiest stage can serve."""
        return (self.query.fps or 0) / self.loads.most[1] if self.loads.most[1] else math.inf


@dataclass(frozen=True, eq=False)
class StreamDecision(Choice[StreamOption]):
    """What to send of a stream.

    Attributes:
        remarks: what else there is to know, a sentence each.
    """

    remarks: Sequence[str]

    @property
    def scope(self) -> str:
        """What the answer is about, a sentence."""
        what_falls_behind = "drops older pictures" if self.query.camera == "newest" else "sends every picture"
        return f"This is about a stream; a camera that falls behind {what_falls_behind}."

    def where(self) -> str:
        """See the base class."""
        link = super().where()
        return f"At {self.query.fps:g} frames a second, {link[0].lower()}{link[1:]}"

    def figures(self, option: StreamOption) -> str:
        """See the base class."""
        late = "" if self.query.deadline_ms is None else f" of the answers in time ({percent(option.on_time, 0)} %)"
        median, most = option.latency_ms
        latency = f"latency {ms(median)} ms (median) and {ms(most)} ms (95 %), " if option.follows else ""
        return f"{number(option.kbps, 0)} kbit/s, {ap_text(option)}{late}, {latency}{self.state(option)}"

    def nearest(self, option: StreamOption) -> str:
        """See the base class."""
        return f"{what(option)} has {self.figures(option)}"

    def verdict(self, one: StreamOption) -> str:
        """See the base class."""
        return super().verdict(one) if one.follows else "does not keep up"

    def state(self, option: StreamOption) -> str:
        """Whether a stream of every frame is stable, and what happens if it is not."""
        stage, load = option.loads.most
        near = ", too close to call" if stage != "link" and abs(load - 1) <= TIMING_ERROR else ""
        if option.stable:
            return f"stable ({stage} {percent(load, 0)} % busy{near})"
        if option.excess_kbps > 0 and stage == "link":
            why = f"{number(option.excess_kbps, 0)} kbit/s over the link's capacity"
        else:
            why = f"the {stage} can do {option.most_fps:.3g} frames a second{near}"
        if self.query.camera == "newest":
            return f"{percent(option.dropped, 0)} % of the frames dropped ({why})"
        growth = number(option.loads.growth, 2 if option.loads.growth < 10 else 0)
        return f"the backlog grows by {growth} s each second ({why})"


def decide_stream(
    sweep: Sweep,
    query: Query,
    edge_from: Sweep | None = None,
    cloud_from: Sweep | None = None,
    console: Console | None = None,
) -> StreamDecision:
    """Which of a sweep's conditions to send a camera's stream by.

    Args:
        sweep: a finished sweep with ``samples.npz``; of clips, also with its database.
        query: with ``fps``.
        edge_from: a sweep of the same conditions on the edge's own machine, whose times count there.
        cloud_from: the same of the cloud.
        console: shows the progress, as AP of late answers takes a while; None shows none.

    Raises:
        CommandError: the sweep has no samples or no times, or not the kind of AP that is asked for.
    """
    if query.kind not in (None, *sweep.kinds):
        raise CommandError(f"this sweep has the AP of {' and '.join(sweep.kinds)}, not of {query.kind!r}")
    found = candidates(sweep, edge_from, cloud_from, query)
    with open_footage(sweep) as footage:
        shown = track(found, "conditions", console=console, transient=True, disable=console is None)
        options = [one for each in shown if (one := _option(footage, each, query)) is not None]
        remarks = _remarks(footage, query)
    options.sort(key=_rank)
    rivals = {one.candidate.row.id for one in options[1:] if options[0].meets and _too_close(options[0], one, query)}
    overlapped = any(overlaps(one) for one in (sweep, edge_from, cloud_from) if one is not None)
    return StreamDecision(query, query.kind or sweep.kind, options, _front(options), rivals, overlapped, remarks)


def _option(footage: Footage, candidate: Candidate, query: Query) -> StreamOption | None:
    row, route, order = candidate.row, query.route, footage.order
    if footage.sweep.ap(row, query.kind) is None or query.fps is None:
        return None
    bits = np.rint(candidate.bits[order]).astype(np.int64)
    frames = Frames(
        np.arange(len(order)) / query.fps,
        candidate.edge_ms[order] / query.edge_speed,
        bits,
        candidate.cloud_ms[order] / query.cloud_speed,
        candidate.hops_ms[order],
        footage.coded_after(row),
    )
    busy = loads(frames, route.expected_bits(bits) / (1e3 * route.mbps))
    timelines = _sent(footage, frames, query)
    ap, draws = footage.in_time(row, query, timelines)
    ends = interval(draws)
    found = standing(footage.sweep, row, query, ap, ends, draws)
    return StreamOption(
        candidate,
        float(bits.mean()) * query.fps / 1e3,
        busy,
        max(0.0, (busy.link - 1) * 1e3 * route.mbps) if busy.link else 0.0,
        timelines,
        query,
        ap,
        ends,
        found.kept,
        draws,
        accurate=found.meets,
        surely=found.surely,
        possibly=found.maybe,
    )


def _sent(footage: Footage, frames: Frames, query: Query) -> list[Timeline]:
    """What becomes of the frames, sent again and again until a trace has ended once."""
    route, images, count = query.route, footage.images.tolist(), len(footage.order)
    rounds = 1
    if route.trace is not None:
        seen = max(frames.duration_s, 1 / (query.fps or 1))
        rounds = max(1, min(_MOST_FRAMES // count, math.ceil(route.trace.duration / seen)))

    def random(place: int) -> np.random.Generator:
        number, frame = divmod(place, count)
        return stream(route.link.seed, "link", images[frame], str(number or ""))

    whole = simulate(frames.repeated(rounds), route.queue(), query.camera, random, query.under_way)
    return [whole[number * count : (number + 1) * count] for number in range(rounds)]


def _rank(one: StreamOption) -> tuple[object, ...]:
    """Sorting key, the best first; of those that do not keep up, the nearest to it."""
    if not one.follows:
        return 2, not one.accurate, one.loads.growth
    if one.query.deadline_ms is None and one.meets:
        return 0, one.latency_ms[1]
    return not one.meets, -one.ap, one.kbps


def _too_close(best: StreamOption, other: StreamOption, query: Query) -> bool:
    """Whether the best cannot be told from another that is good enough, or perhaps is."""
    if not (other.meets or other.maybe):
        return False
    if query.deadline_ms is not None:
        return len(best.draws) == 0 or undecided(best.draws - other.draws)
    return other.latency_ms[1] <= best.latency_ms[1] * (1 + TIMING_ERROR)


def _front(options: list[StreamOption]) -> set[str]:
    """Ids of the Pareto front of AP, bits and latency: no other is at least as good in all three and better in one."""

    def figures(one: StreamOption) -> Floats:
        return np.array([-one.ap, one.kbps, one.latency_ms[1]])

    following = [one for one in options if one.follows]
    return {
        one.candidate.row.id
        for one in following
        if not any(
            (figures(other) <= figures(one)).all() and (figures(other) < figures(one)).any() for other in following
        )
    }


def _remarks(footage: Footage, query: Query) -> list[str]:
    if footage.stills:
        return [
            "The sweep is of single pictures, each coded by itself: inter-coding is not in it, and a late picture "
            "counts as not detected."
        ]
    remarks = []
    if footage.fps is not None and query.fps is not None and abs(footage.fps - query.fps) > 0.01 * query.fps:
        remarks.append(
            f"The clips have {footage.fps:g} frames a second: at {query.fps:g}, what moves from frame to frame differs "
            "from what was coded here."
        )
    if query.camera == "newest":
        remarks.append(
            "Behind a dropped frame, an inter-coded one is larger than it was measured: it is coded from an older one."
        )
    return remarks


def stream_to_dict(decision: StreamDecision) -> dict[str, Any]:
    """Dicts, lists, numbers and text.

    Returns:
        ``sentence``; ``scope``, what the answer is about; ``call``: ``feature``, ``image``, ``too close to call`` or
        ``nothing``; ``best``, the id of the winning row; ``kind``; ``fps``; ``camera``; ``options``, the best first,
        with AP and shares in 0..1, times in ms, latency and age as median and 95 % (None where nothing was answered,
        and where the backlog grows, of the sweep's own frames);
        ``remarks``; ``overlapped``.
    """
    return {
        "sentence": decision.sentence,
        "scope": decision.scope,
        "call": decision.call,
        "best": None if decision.best is None else decision.best.candidate.row.id,
        "kind": decision.kind,
        "fps": decision.query.fps,
        "camera": decision.query.camera,
        "options": [_option_to_dict(decision, one) for one in decision.options],
        "remarks": list(decision.remarks),
        "overlapped": decision.overlapped,
    }


def _option_to_dict(decision: StreamDecision, one: StreamOption) -> dict[str, Any]:
    candidate, (mean_waiting, most_waiting) = one.candidate, one.waiting
    return {
        "id": candidate.row.id,
        "domain": candidate.row.domain,
        "reduction": candidate.reduction,
        "codec": candidate.codec,
        "strength": candidate.strength,
        "kbps": one.kbps,
        "ap": one.ap,
        "ap_interval": one.ap_interval,
        "kept": one.kept,
        "on_time": one.on_time,
        "latency_ms": _pair(one.latency_ms),
        "age_ms": _pair(one.age_ms),
        "dropped": one.dropped,
        "waiting": {"mean": mean_waiting, "most": most_waiting},
        "load": {"edge": one.loads.edge, "link": one.loads.link, "cloud": one.loads.cloud},
        "stable": one.stable,
        "backlog_growth": one.loads.growth,
        "excess_kbps": one.excess_kbps,
        "most_fps": one.most_fps if math.isfinite(one.most_fps) else None,
        "good_enough": one.meets,
        "surely_good_enough": one.surely,
        "on_front": candidate.row.id in decision.front,
        "too_close_to_call": candidate.row.id in decision.rivals,
    }


def _pair(found: tuple[float, float]) -> dict[str, float] | None:
    return None if math.isnan(found[0]) else {"median": found[0], "p95": found[1]}


def stream_table(decision: StreamDecision, most: int | None = None) -> Table:
    """The ranked options.

    Args:
        decision: whose.
        most: lines at most; None for all.
    """
    late, drops = decision.query.deadline_ms is not None, decision.query.camera == "newest"
    columns = [Column(title, number=False) for title in ("domain", "reduction", "codec", "strength")]
    columns += [Column("kbit/s"), Column("AP %"), Column("kept %"), *([Column("in time %")] if late else [])]
    columns += [Column(title, f"{name}, ms") for name in ("latency", "age") for title in ("median", "95 %")]
    columns += [Column("waiting"), *([Column("dropped %")] if drops else [])]
    columns += [Column("stream", number=False), Column("front", number=False), Column("verdict", number=False)]
    lines = []
    for one in decision.options[:most]:
        candidate = one.candidate
        cells = [candidate.row.domain, candidate.reduction or MISSING, candidate.codec or "as it is"]
        cells += [candidate.strength or MISSING, number(one.kbps, 0)]
        cells += [with_interval(percent(one.ap), one.ap_interval), percent(one.kept)]
        cells += [percent(one.on_time, 0)] if late else []
        times = (*one.latency_ms, *one.age_ms)
        cells += [number(ms, 0) if one.follows and math.isfinite(ms) else MISSING for ms in times]
        cells += [number(one.waiting[0], 1), *([percent(one.dropped, 0)] if drops else [])]
        cells += [decision.state(one), "●" if candidate.row.id in decision.front else "", decision.verdict(one)]
        lines.append(cells)
    fps = f"{decision.query.fps:g}"
    return Table(f"What to send of a stream of {fps} frames a second, the best first", columns, lines, _notes(decision))


REPORT_RATES = (0.1, 0.3, 1.0, 3.0)
"""Mbit/s of the links that a report of clips answers for."""
REPORT_FPS = 10.0
"""Of clips whose data set does not say."""
_FAST = 1e6


def stream_blocks(sweep: Sweep) -> list[Table | str]:
    """A report's answer for a stream at some link rates, with machines that keep up; none where a sweep has no times.

    Args:
        sweep: of clips.
    """
    try:
        with open_footage(sweep) as footage:
            fps = footage.fps or REPORT_FPS
        decisions = [
            decide_stream(sweep, make_query(rate=rate, fps=fps, edge_speed=_FAST, cloud_speed=_FAST))
            for rate in REPORT_RATES
        ]
    except (CommandError, StorageError):
        return []
    note = (
        "Edge and cloud are taken to keep up with the camera and to need no time: latencies are the link's, of frames "
        "that wait for one another. `featlink decide --fps` takes the times that were measured, and deadlines."
    )
    winners = winners_table(
        f"What gets a stream of {fps:g} frames a second soonest over the link and keeps 95 % of the clean AP",
        list(zip(REPORT_RATES, decisions, strict=True)),
        [Column("kbit/s"), Column("link busy %"), *(Column(one, "link, ms") for one in ("median", "95 %"))],
        lambda best: [number(best.kbps, 0), percent(best.loads.link, 0), *(ms(value) for value in best.latency_ms)],
        (note,),
    )
    return [winners]


def _notes(decision: StreamDecision) -> tuple[str, ...]:
    if decision.query.deadline_ms is None:
        rule = f"Two are too close to call where their latencies (95 %) are within {percent(TIMING_ERROR, 0)} %"
    else:
        rule = "Two are too close to call where the interval of their difference of AP holds 0"
    return (
        *decision.notes(
            f"AP ({decision.kind}) with its 95 % interval. {rule}. Age: of the newest answer, at any time. Waiting: "
            "frames that a frame finds in the link's queue, on average. Front: no other is as accurate, as small and "
            "as fast."
        ),
        *decision.remarks,
    )


def _median_and_95(parts: Sequence[Floats]) -> tuple[float, float]:
    values = np.concatenate(parts)
    if not len(values):
        return math.nan, math.nan
    median, most = np.percentile(values, [50, 95])
    return float(median), float(most)
