"""Simulate a camera's stream: edge, link and cloud work on different frames at once, and frames wait for one another.

Each of the three serves one frame at a time, in order; the link is :class:`featlink.channel.link.LinkQueue`. The way
back of the answer takes no time, as on the simulated link.

What the camera does with a picture that cannot be served at once is its policy:

- ``every``: every picture is coded and sent; what cannot be served waits, without limit.
- ``newest``: the edge takes the newest picture there is as soon as it is free and fewer than ``under_way`` frames
  are on their way to an answer; older pictures are dropped. They are dropped before they are coded, since a coded frame
  is needed to decode those after it. So the next frame is coded from the last one that was sent, which is further away
  than when sizes were measured: inter-coded frames behind a gap are larger than this simulation takes them to be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from featlink.channel.link import LinkQueue, Passage
from featlink.deciding.question import UNDER_WAY, Policy
from featlink.shared.evaluation.coco_metrics import Bools, Floats, Ints

_MOMENTS = 20
"""At which the answer's age is looked at, for each frame."""


@dataclass(frozen=True, eq=False)
class Frames:
    """What a camera gives, and what each frame takes; (N,) each.

    Attributes:
        captured_s: rising, in seconds.
        edge_ms: computing before the link, coding included.
        bits: that are to cross it.
        cloud_ms: computing after it.
        hops_ms: between services; they delay a frame and hold up none.
        coded_after: place of the picture that the coder waits for before it gives a frame: the frame's own, or a later
            one if it holds pictures back.
    """

    captured_s: Floats
    edge_ms: Floats
    bits: Ints
    cloud_ms: Floats
    hops_ms: Floats
    coded_after: Ints

    @property
    def duration_s(self) -> float:
        """From the first picture to where the one after the last would come."""
        return float(self.captured_s[-1] - self.captured_s[0]) * len(self.captured_s) / max(1, len(self.captured_s) - 1)

    def repeated(self, rounds: int) -> Frames:
        """The same again and again, one round after another."""
        count = len(self.captured_s)
        places, number = np.tile(np.arange(count), rounds), np.arange(rounds).repeat(count)
        return Frames(
            self.captured_s[places] + number * self.duration_s,
            self.edge_ms[places],
            self.bits[places],
            self.cloud_ms[places],
            self.hops_ms[places],
            self.coded_after[places] + number * count,
        )


@dataclass(frozen=True, eq=False)
class Timeline:
    """What became of a camera's frames; (N,) each, seconds on the camera's clock, NaN of dropped frames.

    Attributes:
        captured_s: when the picture was taken.
        ready_s: when it was coded and joined the link's queue.
        start_s: when its first bit left.
        arrival_s: when its last bit arrived.
        answer_s: when its answer was there.
        sent_bits: packets sent again included; 0 of dropped frames.
    """

    captured_s: Floats
    ready_s: Floats
    start_s: Floats
    arrival_s: Floats
    answer_s: Floats
    sent_bits: Ints

    def __getitem__(self, part: slice) -> Timeline:
        """The same of some frames."""
        return Timeline(*(getattr(self, one.name)[part] for one in fields(self)))

    @property
    def sent(self) -> Bools:
        """Which frames were sent."""
        return ~np.isnan(self.answer_s)

    def in_time(self, deadline_ms: float) -> Bools:
        """Which frames have their own answer at most so long after the picture was taken."""
        return 1e3 * (self.answer_s - self.captured_s) <= deadline_ms  # NaN of a dropped frame is not

    @property
    def latency_ms(self) -> Floats:
        """From picture to answer, of frames that were sent."""
        return 1e3 * (self.answer_s - self.captured_s)[self.sent]

    @property
    def waiting(self) -> Ints:
        """How many frames each sent one found waiting for the link, without the one under way."""
        start, ready = self.start_s[self.sent], self.ready_s[self.sent]
        ahead: Ints = np.arange(len(start)) - np.searchsorted(start, ready, side="right")
        return ahead.clip(min=0)

    @property
    def age_ms(self) -> Floats:
        """Age of the newest answer, which is the time since its picture was taken, at moments spread evenly.

        From the first answer to the last picture; none if the first answer comes later.
        """
        answers, captured = self.answer_s[self.sent], self.captured_s[self.sent]
        if not len(answers) or answers[0] >= self.captured_s[-1]:
            return np.zeros(0)
        moments = np.linspace(answers[0], self.captured_s[-1], _MOMENTS * len(self.captured_s))
        return 1e3 * (moments - captured[np.searchsorted(answers, moments, side="right") - 1])


@dataclass(frozen=True)
class Loads:
    """How busy a stream of every frame keeps edge, link and cloud, as shares of the time.

    Above 1, a backlog grows before that stage, by as many seconds a second as the load is above 1.
    """

    edge: float
    link: float
    cloud: float

    @property
    def most(self) -> tuple[str, float]:
        """The busiest stage and its load."""
        return max(vars(self).items(), key=lambda one: one[1])

    @property
    def growth(self) -> float:
        """Seconds by which the backlog grows each second; 0 of a stable stream."""
        return max(0.0, self.most[1] - 1)


def loads(frames: Frames, link_ms: Floats) -> Loads:
    """The loads of a stream of which every frame is sent.

    Args:
        frames: all of them.
        link_ms: (N,) that each holds the link at its mean rate, packets sent again included.
    """
    seconds = frames.duration_s
    if not seconds:
        return Loads(0.0, 0.0, 0.0)
    return Loads(*(float(ms.sum()) / 1e3 / seconds for ms in (frames.edge_ms, link_ms, frames.cloud_ms)))


def simulate(
    frames: Frames,
    queue: LinkQueue,
    policy: Policy = "every",
    random: Callable[[int], np.random.Generator] = np.random.default_rng,
    under_way: int = UNDER_WAY,
) -> Timeline:
    """Send a camera's frames through edge, link and cloud.

    Args:
        frames: in order.
        queue: the link, whose clock is the camera's.
        policy: of a camera that falls behind.
        random: a frame's stream of jitter and losses, by its place.
        under_way: frames without an answer that ``newest`` allows.

    Example:
        >>> from featlink.channel.link import Link
        >>> places, ones = np.arange(4), np.ones(4)
        >>> camera = Frames(places / 10, 20 * ones, np.full(4, 50_000), 30 * ones, 0 * ones, places)
        >>> simulate(camera, LinkQueue(Link(rate_mbps=0.4))).latency_ms.round().tolist()
        [175.0, 200.0, 225.0, 250.0]
        >>> simulate(camera, LinkQueue(Link(rate_mbps=0.4)), "newest", under_way=1).sent.tolist()
        [True, True, False, True]
    """
    count = len(frames.captured_s)
    ready, start, arrival, answer = (np.full(count, np.nan) for _ in range(4))
    sent_bits = np.zeros(count, np.int64)
    edge_free = cloud_free = -np.inf
    answers: list[float] = []
    place = 0
    while place < count:
        free = edge_free
        if policy == "newest":
            if len(answers) >= under_way:
                free = max(free, answers[-under_way])
            place = max(place, int(np.searchsorted(frames.captured_s, free, side="right")) - 1)
        edge_free = max(float(frames.captured_s[place]), free) + float(frames.edge_ms[place]) / 1e3
        coded = max(edge_free, float(frames.captured_s[frames.coded_after[place]]))
        one: Passage = queue.send(int(frames.bits[place]), coded, random(place))
        begun = max(one.arrival_s + float(frames.hops_ms[place]) / 1e3, cloud_free)
        cloud_free = begun + float(frames.cloud_ms[place]) / 1e3
        ready[place], start[place], arrival[place], answer[place] = coded, one.start_s, one.arrival_s, cloud_free
        sent_bits[place] = one.bits
        answers.append(cloud_free)
        place += 1
    return Timeline(frames.captured_s, ready, start, arrival, answer, sent_bits)
