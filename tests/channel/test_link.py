"""Transfer times against the formula and the expected values of its random parts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.link import Link, Transfer, parse_link
from featlink.shared.errors import InvalidLinkError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def times(link: Link, bits: int, count: int = 4000) -> np.ndarray:
    random = rng()
    return np.array([link.transfer(bits, random).ms for _ in range(count)])


@given(st.integers(0, 10**10))
def test_the_default_link_takes_no_time(bits: int) -> None:
    assert Link().transfer(bits, rng()) == Transfer(0, bits)


@given(st.integers(0, 10**10), st.floats(0.01, 1e4), st.floats(0, 1e4))
def test_without_chance_it_is_half_a_round_trip_and_the_bits(bits: int, rate_mbps: float, rtt_ms: float) -> None:
    expected = rtt_ms / 2 + bits / (rate_mbps * 1e6) * 1e3
    assert Link(rate_mbps=rate_mbps, rtt_ms=rtt_ms).transfer(bits, rng()).ms == pytest.approx(expected)


def test_an_unlimited_link_still_has_its_delay() -> None:
    assert Link(rtt_ms=80).transfer(10**9, rng()).ms == 40


def test_jitter_spreads_the_delay_by_its_deviation() -> None:
    delays = times(Link(rtt_ms=200, jitter_ms=10), 1000)
    assert delays.mean() == pytest.approx(100, abs=4 * 10 / np.sqrt(4000))
    assert delays.std() == pytest.approx(10, rel=0.05)


def test_jitter_never_makes_time_run_backwards() -> None:
    delays = times(Link(rate_mbps=1, jitter_ms=50), 8000)
    assert delays.min() == 8  # what the bits take
    assert delays.mean() == pytest.approx(8 + 50 / np.sqrt(2 * np.pi), rel=0.1)  # the mean of a half-normal


@pytest.mark.parametrize("loss", [0.01, 0.3])
def test_lost_packets_are_sent_again_until_they_arrive(loss: float) -> None:
    """A packet is sent 1/(1 - loss) times on average, losses of losses included."""
    packets, per_packet = 200, 8 * 1500 / 1e3  # ms at 1 Mbit/s
    link = Link(rate_mbps=1, loss=loss)
    extra = times(link, packets * 8 * 1500) - packets * per_packet
    resent = extra / per_packet
    assert resent == pytest.approx(np.rint(resent))
    expected = packets * loss / (1 - loss)
    assert resent.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / (1 - loss) / 4000))


def test_each_round_of_losses_costs_a_round_trip() -> None:
    """One packet: the number of rounds is geometric."""
    rounds = (times(Link(rtt_ms=10, loss=0.5), 800) - 5) / 10
    assert set(rounds) <= set(range(40))
    shares = [np.mean(rounds == k) for k in range(4)]
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.0625], abs=0.04)


@pytest.mark.parametrize(("bits", "packets"), [(0, 0), (1, 1), (800, 1), (801, 2)])
def test_a_started_packet_counts_as_one(bits: int, packets: int) -> None:
    link = Link(rate_mbps=0.8, loss=0.5, mtu=100)  # a packet takes 1 ms and is sent twice on average
    resent = times(link, bits) - bits / 800
    assert resent.mean() == pytest.approx(packets, abs=5 * np.sqrt(2 * packets / 4000))


def test_packets_sent_again_are_bits_too() -> None:
    link, packet = Link(rate_mbps=1, loss=0.3), 8 * 1500
    sent = [link.transfer(100 * packet, random) for random in map(rng, range(50))]
    assert all(transfer.ms == pytest.approx(transfer.bits / 1e3) for transfer in sent)
    assert np.mean([transfer.bits for transfer in sent]) == pytest.approx(100 * packet / 0.7, rel=0.05)


def test_an_erasing_link_costs_no_time_but_samples() -> None:
    link = Link(rate_mbps=1, rtt_ms=10, loss=0.3, on_loss="erase", conceal="mean", mtu=500)
    assert link.transfer(10**6, rng()) == Transfer(1005, 10**6)
    assert link.erasure() == PacketLoss(rate=0.3, mtu=500, conceal="mean")
    assert Link(loss=0.3).erasure() is None
    assert Link(on_loss="erase").erasure() is None


def test_the_same_stream_gives_the_same_time() -> None:
    link = Link(rate_mbps=5, rtt_ms=30, jitter_ms=5, loss=0.1)
    assert link.transfer(10**6, rng(3)) == link.transfer(10**6, rng(3))


@pytest.mark.parametrize(
    "bad",
    [
        {"rate_mbps": 0},
        {"rate_mbps": -1},
        {"rtt_ms": -1},
        {"jitter_ms": -1},
        {"loss": 1},
        {"loss": 0.9999999},
        {"loss": -0.1},
        {"mtu": 63},
        {"mtu": 65536},
        {"seed": -1},
        {"nonsense": 1},
        {"rate_mbps": float("nan")},
        {"rtt_ms": float("inf")},
        {"jitter_ms": "nan"},
        {"loss": float("nan")},
        {"rtt_ms": "40"},
        {"loss": False},
        {"wait": 1},
        {"wait": "yes"},
        {"seed": 1.0},
    ],
)
def test_impossible_links_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Link(**bad)


@pytest.mark.parametrize(
    "field",
    [{"rtt_ms": 172_800_000}, {"rtt_ms": 1e308}, {"jitter_ms": 1e308}, {"rate_mbps": 1e-300}, {"rate_mbps": 1e300}],
)
def test_times_beyond_all_links_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Link(**field)


def test_the_slowest_link_still_gives_a_finite_time() -> None:
    slowest = Link(rate_mbps=1e-6, rtt_ms=3_600_000, jitter_ms=3_600_000, loss=0.99, mtu=64)
    assert np.isfinite(slowest.transfer(10**9, rng()).ms)


def test_what_erasing_takes_besides() -> None:
    link = Link(
        loss=0.1,
        on_loss="erase",
        burst=5,
        parity=0.5,
        key_parity=1,
        interleave=2,
        rtt_ms=40,
        deadline_ms=110,
        key_request=3,
    )
    assert link.erasure() == PacketLoss(
        rate=0.1, burst=5, parity=0.5, key_parity=1, interleave=2, retries=2, key_request=3
    )  # 20 ms one way, and two round trips more
    assert Link(on_loss="erase", loss_trace=".x", deadline_ms=5).erasure() == PacketLoss(rate=0, trace=".x", retries=16)
    assert Link(on_loss="erase", loss=0.1, rtt_ms=40, deadline_ms=59).erasure() == PacketLoss(rate=0.1)
    assert Link(rtt_ms=40).transfer(8, rng(), rounds=2) == Transfer(100, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"parity": 0.5},
        {"burst": 2, "loss": 0.1},
        {"on_loss": "erase", "loss": 0.9, "burst": 2},
        {"on_loss": "erase", "loss": 0.1, "loss_trace": "x."},
        {"on_loss": "erase", "loss_trace": "01"},
        {"on_loss": "erase", "loss": 0.1, "parity": 5},
    ],
)
def test_erasing_that_has_no_meaning(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidLinkError):
        parse_link(json.dumps(wrong))
