"""The queue before a link against queueing theory's closed forms, and traces against sums by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from featlink.channel.link import Link, LinkQueue, Passage

MEGABIT = 1_000_000
STEPS = [{"seconds": 0, "mbps": 1}, {"seconds": 1, "mbps": 0}, {"seconds": 2, "mbps": 4}, {"seconds": 3, "mbps": 0}]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sent(link: Link, bits: list[int], ready_s: list[float], seed: int = 0) -> list[Passage]:
    queue, random = LinkQueue(link), rng(seed)
    return [queue.send(size, moment, random) for size, moment in zip(bits, ready_s, strict=True)]


sizes = st.lists(st.integers(0, 3 * MEGABIT), min_size=1, max_size=30)
links = st.sampled_from(
    [
        Link(),
        Link(rate_mbps=2, rtt_ms=30),
        Link(rate_mbps=2, rtt_ms=30, jitter_ms=200, loss=0.2),
        Link.model_validate({"trace": STEPS, "jitter_ms": 50}),
    ]
)


@given(links, st.integers(0, MEGABIT), st.integers(0, 2**31))
def test_a_frame_alone_takes_what_a_still_takes(link: Link, bits: int, seed: int) -> None:
    [alone] = sent(link, [bits], [0.0], seed)
    if link.rates is None:
        still = link.transfer(bits, rng(seed))
        assert (alone.ms, alone.bits) == (pytest.approx(still.ms), still.bits)
    assert alone.queued_ms == 0


@given(links, sizes, st.floats(0, 1))
def test_order_is_kept_and_the_link_sends_one_at_a_time(link: Link, bits: list[int], every_s: float) -> None:
    passages = sent(link, bits, [every_s * k for k in range(len(bits))])
    for one in passages:
        assert one.ready_s <= one.start_s <= one.sent_s <= one.arrival_s
    for before, after in pairwise(passages):
        assert after.start_s == max(after.ready_s, before.sent_s)
        assert after.arrival_s >= before.arrival_s


@given(sizes, st.floats(0, 0.5), st.floats(0, 2.9))
def test_over_a_trace_the_queue_is_one_sum(bits: list[int], every_s: float, begun_s: float) -> None:
    """In delivered megabits instead of seconds, a trace is a steady link (Lindley's recursion)."""

    def delivered(moment: float) -> float:
        rounds, rest = divmod(moment - begun_s, 3)
        return float(5 * rounds + np.interp(rest, [0, 1, 2, 3], [0, 1, 1, 5]))

    link, random = Link.model_validate({"trace": STEPS}), rng()
    queue = LinkQueue(link, begun_s)
    done = -np.inf
    for place, size in enumerate(bits):
        one = queue.send(size, every_s * place + 3, random)
        done = max(done, delivered(one.ready_s)) + size / MEGABIT
        assert delivered(one.sent_s) == pytest.approx(done, abs=1e-6)
        if size:
            assert delivered(one.sent_s - 1e-3) < done + 1e-9  # not a zero-rate stretch later


def test_a_trace_by_hand() -> None:
    half, one = MEGABIT // 2, MEGABIT
    passages = sent(Link.model_validate({"trace": STEPS}), [half, one, half, 4 * one], [0.25, 0.25, 0.25, 2.9])
    assert [round(one.start_s, 9) for one in passages] == [0.25, 0.75, 2.1875, 2.9]
    assert [round(one.sent_s, 9) for one in passages] == [0.75, 2.1875, 2.3125, 5.65]


@pytest.mark.parametrize("load", [1.0, 1.25, 3.0])
def test_constant_sizes_grow_the_backlog_by_load_minus_one(load: float) -> None:
    """Seconds of backlog a second."""
    count, every_s = 200, 0.1
    queue, random = LinkQueue(Link(rate_mbps=1, rtt_ms=500)), rng()
    for k in range(count):
        queue.send(round(load * every_s * MEGABIT), k * every_s, random)
    now = count * every_s
    assert queue.backlog_ms(now) / 1e3 == pytest.approx((load - 1) * now)
    assert queue.waiting(now - 1e-6) == int(count - now / load / every_s)
    assert queue.waiting(now + queue.backlog_ms(now) / 1e3) == 0


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.3, 0.8])
def test_random_arrivals_of_constant_size_wait_as_in_md1(load: float) -> None:
    """Pollaczek and Khinchine: ρ / (2 (1 − ρ)) service times on average; and the link is busy for ρ of the time."""
    service_s, count = 0.01, 40_000
    moments = rng(1).exponential(service_s / load, count).cumsum()
    passages = sent(Link(rate_mbps=1), [round(service_s * MEGABIT)] * count, moments.tolist())
    waits = np.array([one.queued_ms for one in passages]) / 1e3
    assert waits.mean() == pytest.approx(service_s * load / (2 * (1 - load)), rel=0.08)
    busy = sum(one.sent_s - one.start_s for one in passages)
    assert busy / passages[-1].sent_s == pytest.approx(load, rel=0.02)


def test_lost_packets_hold_the_link_and_their_round_trips_do_not() -> None:
    link = Link(rate_mbps=1, rtt_ms=1000, loss=0.3)
    passages = sent(link, [20 * 12_000] * 300, [0.0] * 300)
    assert passages[-1].sent_s == pytest.approx(sum(one.bits for one in passages) / MEGABIT)
    assert np.mean([one.bits for one in passages]) == pytest.approx(20 * 12_000 / 0.7, rel=0.03)
    assert passages[0].arrival_s >= passages[0].sent_s + 0.5


@pytest.mark.parametrize(
    "bad",
    [
        {"trace": STEPS, "rate_mbps": 5},
        {"trace": STEPS[:1]},
        {"trace": STEPS[1:]},
        {"trace": [STEPS[0], STEPS[0]]},
        {"trace": [{"seconds": 0, "mbps": 0}, {"seconds": 1, "mbps": 5}]},
        {"trace": [{"seconds": 0, "mbps": -1}, {"seconds": 1, "mbps": 5}]},
        {"trace": [{"seconds": 0, "mbps": 1}, {"seconds": 86_401, "mbps": 5}]},
        {"trace": [{"seconds": 0, "mbps": "1"}, {"seconds": 1, "mbps": 5}]},
        {"trace": [{"seconds": 0}, {"seconds": 1, "mbps": 5}]},
        {"trace": [{"seconds": float(k), "mbps": 1.0} for k in range(4097)]},
        {"trace": 5},
    ],
)
def test_what_is_no_trace_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Link.model_validate(bad)


def test_a_still_comes_at_a_random_moment_of_the_trace() -> None:
    link, random = Link.model_validate({"trace": STEPS}), rng()
    times = np.array([link.transfer(1, random).ms for _ in range(3000)])
    assert np.mean(times < 1) == pytest.approx(2 / 3, abs=0.04)
    assert times.max() == pytest.approx(1000, rel=0.02)
    assert link.transfer(MEGABIT, rng(4)) == link.transfer(MEGABIT, rng(4))
