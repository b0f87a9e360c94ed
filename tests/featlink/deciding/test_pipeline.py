"""A camera's stream through edge, link and cloud: against timelines by hand and the laws of queues in a row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink.channel.link import Link, LinkQueue
from featlink.deciding.pipeline import Frames, Timeline, loads, simulate
from featlink.deciding.question import POLICIES, UNDER_WAY, Policy


def camera(
    count: int, fps: float, edge_ms: float, kilobits: float, cloud_ms: float, hops_ms: float = 0, held_back: int = 0
) -> Frames:
    ones, places = np.ones(count), np.arange(count)
    bits = np.full(count, round(1e3 * kilobits))
    after = np.minimum(places + held_back, count - 1)
    return Frames(places / fps, edge_ms * ones, bits, cloud_ms * ones, hops_ms * ones, after)


def sent(frames: Frames, policy: Policy = "every", **link: float) -> Timeline:
    return simulate(frames, LinkQueue(Link.model_validate(link)), policy)


times = st.floats(0, 300)


@given(st.sampled_from(POLICIES), st.integers(1, 40), st.floats(1, 60), times, times, times, st.floats(0, 0.3))
def test_order_is_kept_and_each_stage_serves_one_at_a_time(
    policy: Policy, count: int, fps: float, edge_ms: float, kilobits: float, cloud_ms: float, loss: float
) -> None:
    frames = camera(count, fps, edge_ms, kilobits, cloud_ms)
    timeline = sent(frames, policy, rate_mbps=1, rtt_ms=20, jitter_ms=30, loss=loss)
    moments = np.array([timeline.captured_s, timeline.ready_s, timeline.start_s, timeline.arrival_s, timeline.answer_s])
    moments = moments[:, timeline.sent]
    slack = 1e-9
    assert (np.diff(moments, axis=0) >= -slack).all()
    assert (np.diff(moments, axis=1) >= 0).all()
    assert (np.diff(moments[1]) >= edge_ms / 1e3 - slack).all()
    assert (np.diff(moments[2]) >= frames.bits[0] / 1e6 - slack).all()
    assert (np.diff(moments[4]) >= cloud_ms / 1e3 - slack).all()
    assert (timeline.sent_bits[timeline.sent] >= frames.bits[timeline.sent]).all()
    assert not timeline.sent_bits[~timeline.sent].any()
    if policy == "every":
        assert timeline.sent.all()
    else:
        under_way = [np.sum(moments[4] > at) - np.sum(moments[1] - edge_ms / 1e3 > at) for at in moments[1]]
        assert max(under_way) <= UNDER_WAY


def test_stages_work_on_different_frames_at_once() -> None:
    """30, 40 and 20 ms: a frame takes their sum, and every 40 ms there is one."""
    timeline = sent(camera(200, 25, 30, 40, 20, hops_ms=5), rate_mbps=1, rtt_ms=10)
    assert timeline.latency_ms == pytest.approx(np.full(200, 30 + 40 + 5 + 20 + 5))
    assert np.diff(timeline.answer_s) == pytest.approx(np.full(199, 0.04))
    assert not timeline.waiting.any()


@pytest.mark.parametrize(("stage", "busiest"), [(0, "edge"), (1, "link"), (2, "cloud")])
@pytest.mark.parametrize("load", [0.5, 0.99, 1.3, 4.0])
def test_the_backlog_grows_by_load_minus_one(stage: int, busiest: str, load: float) -> None:
    fps, count = 10, 300
    parts = [100 * load if place == stage else 10 for place in range(3)]
    frames = camera(count, fps, *parts)
    timeline, of_stages = sent(frames, rate_mbps=1), loads(frames, frames.bits / 1e3)
    assert of_stages.most == (busiest, pytest.approx(load))
    assert of_stages.growth == pytest.approx(max(0, load - 1))
    growth = (timeline.latency_ms[-1] - timeline.latency_ms[0]) / 1e3 / (timeline.captured_s[-1])
    assert growth == pytest.approx(max(0, load - 1))


def test_newest_drops_what_the_slowest_stage_cannot_do_and_stays_young() -> None:
    for parts in ((250, 10, 10), (10, 250, 10), (10, 10, 250)):
        timeline = sent(camera(500, 10, *parts), "newest", rate_mbps=1)
        assert timeline.sent.mean() == pytest.approx(0.4, abs=0.01)
        assert timeline.latency_ms.max() <= UNDER_WAY * 250 + 100 + 20  # it picks a picture that is up to 100 ms old
        assert sent(camera(500, 10, *parts), "every", rate_mbps=1).latency_ms.max() > 50_000


def test_newest_drops_nothing_where_nothing_has_to_wait() -> None:
    frames = camera(100, 10, 30, 80, 20)
    assert (sent(frames, "newest", rate_mbps=1).answer_s == sent(frames, "every", rate_mbps=1).answer_s).all()


def test_a_large_frame_delays_those_behind_it() -> None:
    """An intra picture of 400 kbit among frames of 20 kbit, 10 a second over 1 Mbit/s."""
    frames = camera(10, 10, 0, 20, 0)
    frames.bits[3] = 400_000
    timeline = sent(frames, rate_mbps=1)
    assert timeline.latency_ms.round(6).tolist() == [20, 20, 20, 400, 320, 240, 160, 80, 20, 20]
    assert timeline.waiting.tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 0, 0]


def test_the_answers_age() -> None:
    """Answers come 50 ms after each picture, 10 a second: ages go up from 50 to 150 ms, evenly."""
    ages = sent(camera(200, 10, 20, 10, 20), rate_mbps=1).age_ms
    assert (ages.min(), ages.max()) == (pytest.approx(50, abs=2), pytest.approx(150, abs=2))
    assert ages.mean() == pytest.approx(100, abs=2)
    assert len(sent(camera(3, 10, 1000, 10, 20), rate_mbps=1).age_ms) == 0


def test_a_coder_that_holds_pictures_back_waits_for_them() -> None:
    timeline = sent(camera(6, 10, 1, 1, 1, held_back=2), rate_mbps=1)
    assert timeline.latency_ms.round(6).tolist() == [202, 202, 202, 202, 103, 4]


def test_the_same_chance_at_any_load() -> None:
    link = Link(rate_mbps=1, rtt_ms=40, jitter_ms=20, loss=0.1)
    frames = camera(50, 10, 1, 50, 1)

    def drawn(rate_mbps: float) -> list[int]:
        queue = LinkQueue(link.model_copy(update={"rate_mbps": rate_mbps}))
        return simulate(frames, queue, random=lambda place: np.random.default_rng([7, place])).sent_bits.tolist()

    assert drawn(1) == drawn(0.1)
    assert sum(drawn(1)) > frames.bits.sum()


def test_a_still_is_a_stream_of_one() -> None:
    frames = camera(1, 10, 10, 100, 20, hops_ms=3)
    assert sent(frames, rate_mbps=1, rtt_ms=40).latency_ms.tolist() == [pytest.approx(153)]
    assert loads(frames, frames.bits / 1e3).growth == 0
