"""Packet loss against the theory of the Markov chain; concealment against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink.channel.distortions.base import Planes
from featlink.channel.distortions.packet_loss import PacketLoss, conceal, lose_packets, lost_samples
from featlink.channel.randomness import stream
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError
from featlink.shared.frames.bitstream import dtype_for, nbytes, pack
from featlink.shared.frames.packing import dequantize

RANGE = np.array([[-1, 3]], np.float32)
CHAINS = [(0.01, 1), (0.3, 1), (0.9, 1), (0.01, 3), (0.1, 1.2), (0.2, 10), (0.5, 2), (0.9, 30)]


def bursts(lost: np.ndarray) -> np.ndarray:
    """Lengths of the bursts."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(int)))
    return edges[1::2] - edges[::2]


def samples(shape: tuple[int, ...], bits: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << bits, shape).astype(dtype_for(bits))


@pytest.mark.parametrize(("rate", "burst"), CHAINS)
def test_rate_burst_length_and_correlation(rate: float, burst: float) -> None:
    count = 400_000
    lost = lose_packets(count, rate, burst, stream(0, rate, burst))
    mean_burst = burst if burst > 1 else 1 / (1 - rate)
    correlation = 1 - 1 / mean_burst / (1 - rate)  # the chain's second eigenvalue
    variance = rate * (1 - rate) / count * (1 + correlation) / (1 - correlation)
    assert lost.mean() == pytest.approx(rate, abs=3 * math.sqrt(variance))
    lengths = bursts(lost)
    deviation = math.sqrt(mean_burst * (mean_burst - 1) / len(lengths))  # of geometric lengths
    assert lengths.mean() == pytest.approx(mean_burst, abs=3 * deviation)
    assert np.corrcoef(lost[1:], lost[:-1])[0, 1] == pytest.approx(correlation, abs=0.02)


def test_the_first_packet_is_lost_like_any_other() -> None:
    rng = stream(0)
    first = [lose_packets(3, 0.3, 20.0, rng)[0] for _ in range(5000)]
    assert np.mean(first) == pytest.approx(0.3, abs=3 * math.sqrt(0.3 * 0.7 / 5000))


@pytest.mark.parametrize("burst", [1, 5])
def test_no_loss_at_rate_0(burst: float) -> None:
    assert not lose_packets(10_000, 0.0, burst, stream(0)).any()


def test_all_is_lost_at_rate_1() -> None:
    assert lose_packets(10_000, 1.0, 1, stream(0)).all()


@given(st.integers(1, 16), st.integers(1, 30), st.data())
def test_a_sample_is_lost_if_a_byte_with_bits_of_it_is(bits: int, count: int, data: st.DataObject) -> None:
    size = nbytes(count, bits)
    lost = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    expected = []
    for index in range(count):
        alone = np.zeros(count, dtype_for(bits))
        alone[index] = (1 << bits) - 1
        expected.append(bool((pack(alone, bits)[lost] != 0).any()))
    assert lost_samples(lost, bits, count).tolist() == expected


@pytest.mark.parametrize("bits", [1, 3, 8, 10, 16])
@pytest.mark.parametrize("shape", [(256, 13, 17), (3, 37, 51), (1, 1, 1)])
def test_without_concealment_whole_packets_are_zero_bytes(shape: tuple[int, ...], bits: int) -> None:
    clean = samples(shape, bits)
    out = PacketLoss(rate=0.4, mtu=100, conceal="none").apply(Planes(clean, bits, RANGE), stream(3)).samples
    sent, received = pack(clean.reshape(-1), bits), pack(out.reshape(-1), bits)
    packets = lose_packets(-(-sent.size // 60), 0.4, 1, stream(3))
    for index, lost in enumerate(packets):
        payload = slice(60 * index, 60 * (index + 1))
        assert (received[payload] == (0 if lost else sent[payload])).all()


@pytest.mark.parametrize("how", ["zero", "mean"])
@pytest.mark.parametrize("bits", [3, 8, 10, 16])
def test_concealment_touches_lost_samples_only(bits: int, how: str) -> None:
    clean = samples((3, 37, 51), bits)
    distortion = PacketLoss(rate=0.4, mtu=100, conceal=how)
    out = distortion.apply(Planes(clean, bits, RANGE), stream(3)).samples
    packets = lose_packets(-(-nbytes(clean.size, bits) // 60), 0.4, 1, stream(3))
    lost = lost_samples(np.repeat(packets, 60)[: nbytes(clean.size, bits)], bits, clean.size).reshape(clean.shape)
    assert lost.any()
    assert (out[~lost] == clean[~lost]).all()
    for channel in range(3):
        nearest = np.rint(0.25 * (2**bits - 1))  # 0 is a quarter of the way from -1 to 3
        expected = nearest if how == "zero" else np.rint(clean[channel][~lost[channel]].mean())
        assert (out[channel][lost[channel]] == expected).all()


@pytest.mark.parametrize("bits", [1, 4, 8, 10])
def test_zero_is_the_sample_that_stands_for_the_smallest_feature(bits: int) -> None:
    ranges = np.array([[-1, 3.3], [0, 255], [2, 5], [-7, -2], [4, 4], [-1e-3, 900]], np.float32)
    planes = Planes(samples((6, 1, 3), bits), bits, ranges)
    everything = np.broadcast_to(np.arange(1 << bits, dtype=dtype_for(bits)), (6, 1, 1 << bits)).copy()
    features = np.abs(dequantize(everything, ranges, bits))
    hidden = conceal(planes, np.ones((6, 1, 3), bool), "zero")
    assert (hidden == features.argmin(axis=2)[:, :, None]).all()


def test_mean_falls_back_to_the_level_and_then_to_the_middle() -> None:
    planes = Planes(np.array([[[10, 20, 90]], [[200, 201, 202]], [[1, 2, 3]]], np.uint8), 8, RANGE)
    missing = np.array([[[False, False, True]], [[True, True, True]], [[True, False, True]]])
    assert conceal(planes, missing, "mean").tolist() == [[[10, 20, 15]], [[11, 11, 11]], [[2, 2, 2]]]
    assert (conceal(planes, np.ones_like(missing), "mean") == 128).all()


def test_headers_of_each_packet_are_overhead() -> None:
    loss = PacketLoss(rate=0.1)
    full = 8 * 1460
    assert [loss.overhead_bits(bits) for bits in (0, 1, full, full + 1, 10 * full)] == [0, 320, 320, 640, 3200]
    assert PacketLoss(rate=0.1, header=0).overhead_bits(full) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        "rate=1.1",
        "rate=-0.1",
        "rate=0.1, burst=0.9",
        "rate=0.1, mtu=63",
        "rate=0.1, mtu=65536",
        "rate=0.1, header=61",
        "rate=0.1, conceal=hide",
        "burst=2",
    ],
)
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(ConditionError, match=r"packet_loss: (rate|burst|mtu|header|conceal): "):
        chain(parse(f"packet_loss({wrong})"))


@pytest.mark.parametrize(("rate", "burst"), [(0.9, 1.5), (0.5, 1.9), (1, 100)])
def test_bursts_shorter_than_those_of_independent_losses_are_refused(rate: float, burst: float) -> None:
    with pytest.raises(ConditionError, match=f"packet_loss: burst={burst} is too short for rate={rate}"):
        chain(parse(f"packet_loss(rate={rate}, burst={burst})"))
