"""The decision for a stream: what becomes of a camera's frames, coded by each condition of a sweep, over a link.

The frames are those of the sweep's clips, one clip behind another, with the bits and times that were measured of each.
:mod:`featlink.deciding.pipeline` sends them through edge, link and cloud. AP is that of the answers which are there in
time: a frame whose answer is late is judged by the newest answer that is there
(:mod:`featlink.shared.evaluation.streaming`). A sweep of stills can be taken for a stream, too: then nothing was coded
from picture to picture, and a late picture counts as not detected, since another picture's answer says nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from featlink.channel.randomness import stream
from featlink.channel.transmit import Stream
from featlink.deciding.choice import Choice, ap_text, domain, ms, what
from featlink.deciding.pipeline import Frames, Loads, Timeline, loads, simulate
from featlink.deciding.query import Query
from featlink.deciding.ranking import TIMING_ERROR, Candidate, candidates, least_ap
from featlink.errors import CommandError
from featlink.report.sweep import Sweep, condition_of
from featlink.report.table import MISSING, Column, Table, number, percent, with_interval
from featlink.report.timing import overlaps
from featlink.results import DATABASE
from featlink.shared.evaluation.coco import Clip, ItemTruth, clips, items
from featlink.shared.evaluation.coco_metrics import Bools, Floats, Ints
from featlink.shared.evaluation.coco_results import clean_truth
from featlink.shared.evaluation.confidence_intervals import Interval, interval, undecided
from featlink.shared.evaluation.protocol import clip_results, grouped
from featlink.shared.evaluation.streaming import AnswerTimes, StreamingEvaluator
from featlink.shared.result import Detection
from featlink.shared.store import Store, sqlite_url

_MOST_ROUNDS = 50
"""How often the frames are sent at most, to see a whole trace."""
_FOREVER_S = 1e12


@dataclass(frozen=True, eq=False)
class StreamOption:
    """A candidate as a stream over the link.

    Attributes:
        candidate: what is sent.
        kbps: 10³ bits per second of all frames, without packets that are sent again.
        loads: how busy it keeps edge, link and cloud.
        excess_kbps: what it sends above the link's capacity, in 10³ bits per second; 0 if that suffices.
        timeline: what becomes of the frames.
        fps: frames a second of the camera.
        ap: of the answers in time, in 0..1.
        ap_interval: of it, over clips.
        on_time: share of the frames whose own answer is in time.
        kept: AP over the domain's clean AP, which has no deadline.
        draws: AP in each bootstrap draw.
        meets: whether it is stable and good enough.
        surely: whether AP's interval says so too.
        maybe: whether AP's interval leaves that open.
    """

    candidate: Candidate
    kbps: float
    loads: Loads
    excess_kbps: float
    timeline: Timeline
    fps: float
    ap: float
    ap_interval: Interval | None
    on_time: float
    kept: float | None
    draws: Floats
    meets: bool
    surely: bool
    maybe: bool

    @cached_property
    def latency_ms(self) -> tuple[float, float]:
        """From picture to answer: the median, and what 95 % of the answers stay within."""
        return _median_and_95(self.timeline.latency_ms)

    @cached_property
    def age_ms(self) -> tuple[float, float] | None:
        """Age of the newest answer: the median over time, and what it is below for 95 % of it; None without answers."""
        ages = self.timeline.age_ms
        return _median_and_95(ages) if len(ages) else None

    @property
    def dropped(self) -> float:
        """Share of the frames that the camera dropped."""
        return 1 - float(self.timeline.sent.mean())

    @property
    def stable(self) -> bool:
        """Whether every frame can be served, so that no backlog grows."""
        return self.loads.growth == 0

    @property
    def most_fps(self) -> float:
        """Frames a second that the busiest stage can serve."""
        return self.fps / self.loads.most[1] if self.loads.most[1] else math.inf


@dataclass(frozen=True, eq=False)
class StreamDecision(Choice[StreamOption]):
    """What to send of a stream.

    Attributes:
        stills: whether the sweep is of single pictures.
        remarks: what else there is to know, a sentence each.
    """

    stills: bool
    remarks: Sequence[str]

    def where(self) -> str:
        """See the base class."""
        link = super().where()
        return f"At {self.query.fps:g} frames a second, {link[0].lower()}{link[1:]}"

    def figures(self, option: StreamOption) -> str:
        """See the base class."""
        late = "" if self.query.deadline_ms is None else f" of the answers in time ({percent(option.on_time, 0)} %)"
        median, most = option.latency_ms
        return (
            f"{number(option.kbps, 0)} kbit/s, {ap_text(option)}{late}, latency {ms(median)} ms (median) and "
            f"{ms(most)} ms (95 %), {self.state(option)}"
        )

    def nearest(self, option: StreamOption) -> str:
        """See the base class."""
        return f"{what(option)} has {self.figures(option)}"

    def state(self, option: StreamOption) -> str:
        """Whether a stream of every frame is stable, and what happens if it is not."""
        stage, load = option.loads.most
        if option.stable:
            return f"stable ({stage} {percent(load, 0)} % busy)"
        if option.excess_kbps > 0 and stage == "link":
            why = f"{number(option.excess_kbps, 0)} kbit/s over the link's capacity"
        else:
            why = f"the {stage} can do {option.most_fps:.3g} frames a second"
        if self.query.policy == "newest":
            return f"{percent(option.dropped, 0)} % of the frames dropped ({why})"
        return f"the backlog grows by {option.loads.growth:.2g} s each second ({why})"


def decide_stream(
    sweep: Sweep, query: Query, edge_from: Sweep | None = None, cloud_from: Sweep | None = None
) -> StreamDecision:
    """Which of a sweep's conditions to send a camera's stream by.

    Args:
        sweep: a finished sweep with ``samples.npz``; of clips, also with its database.
        query: with ``fps``.
        edge_from: a sweep of the same conditions on the edge's own machine, whose times count there.
        cloud_from: the same of the cloud.

    Raises:
        CommandError: the sweep has no samples or no times, or not the kind of AP that is asked for.
    """
    if query.kind not in (None, *sweep.kinds):
        raise CommandError(f"this sweep has the AP of {' and '.join(sweep.kinds)}, not of {query.kind!r}")
    found = candidates(sweep, edge_from, cloud_from)
    footage = open_footage(sweep)
    try:
        options = [one for each in found if (one := _option(sweep, footage, each, query)) is not None]
    finally:
        footage.close()
    if query.deadline_ms is not None:
        options.sort(key=lambda one: (not one.meets, -one.ap, one.kbps))
    else:
        options.sort(key=lambda one: (not one.meets, one.latency_ms[1] if one.meets else -one.ap))
    rivals = {one.candidate.row.id for one in options[1:] if options[0].meets and _too_close(options[0], one, query)}
    overlapped = any(overlaps(one) for one in (sweep, edge_from, cloud_from) if one is not None)
    kind = query.kind or sweep.kind
    return StreamDecision(
        query, kind, options, _front(options), rivals, overlapped, not footage.clips, _remarks(footage, query)
    )


def _option(sweep: Sweep, footage: Footage, candidate: Candidate, query: Query) -> StreamOption | None:
    whole_ap = sweep.ap(candidate.row, query.kind)
    if sweep.samples is None or whole_ap is None or query.fps is None:
        return None
    order = footage.order
    edge_ms, cloud_ms = candidate.edge_ms[order] / query.edge_speed, candidate.cloud_ms[order] / query.cloud_speed
    bits = np.rint(candidate.bits[order]).astype(np.int64)
    captured = np.arange(len(order)) / query.fps
    after = footage.coded_after(candidate)
    frames = Frames(captured, edge_ms, bits, cloud_ms, candidate.hops_ms[order], after)
    sent_kbps = float(query.route.expected_bits(bits).mean()) * query.fps / 1e3
    capacity = 1e3 * query.route.mbps
    link_ms = query.route.expected_bits(bits) / capacity
    busy = loads(frames, link_ms)
    trace = query.route.trace
    rounds = 1 if trace is None else min(_MOST_ROUNDS, math.ceil(trace.duration / frames.duration_s))
    timeline = simulate(
        frames.repeated(rounds),
        query.route.queue(),
        query.policy,
        lambda place: stream(query.route.link.seed, "link", *footage.name(place)),
    )
    deadline_s = _FOREVER_S if query.deadline_ms is None else query.deadline_ms / 1e3
    latency = timeline.answer_s - timeline.captured_s
    on_time = latency <= deadline_s  # not of dropped frames, whose latency is NaN
    judged = footage.judged(sweep, candidate, query, timeline, on_time.reshape(rounds, -1), deadline_s)
    ends = interval(judged.draws) if len(judged.draws) else None
    limits = least_ap(sweep, candidate.row, query, judged.ap, judged.draws, ends)
    follows = query.policy == "newest" or busy.growth == 0
    return StreamOption(
        candidate,
        float(bits.mean()) * query.fps / 1e3,
        busy,
        max(0.0, sent_kbps - capacity),
        timeline,
        query.fps,
        judged.ap,
        ends,
        float(on_time.mean()),
        judged.ap / limits.clean if limits.clean else None,
        judged.draws,
        meets=follows and judged.ap >= limits.least,
        surely=limits.low >= limits.least,
        maybe=follows and judged.ap < limits.least <= limits.high,
    )
