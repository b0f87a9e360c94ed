"""Packets of coded units against closed forms: recovery of k of n, bursts, overhead, and packets sent again."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np
import pytest

from featlink.channel.codecs.base import AccessUnit
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.packets import PacketPath, assemble, cut, protect

HEADERS = 40 + 12


def units(*sizes: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    return [rng.bytes(size) for size in sizes]


def sent_over(step: PacketLoss, given: list[bytes], items: int = 1, key: bool = True) -> list:
    path = PacketPath(step, seed=3, place=2)
    return [path.carry(item, {"x": AccessUnit(tuple(given), key=key)}) for item in range(items)]


@pytest.mark.parametrize("parity", [0, 0.3, 1, 4])
@pytest.mark.parametrize("sizes", [(1,), (5, 700, 3), (1300,) * 7, (1,) * 600, (300_000,)])
def test_any_k_of_a_block_give_the_units_back(parity: float, sizes: tuple[int, ...]) -> None:
    given = units(*sizes)
    packets = protect(cut(given, 500), parity)
    rng = np.random.default_rng(1)
    for _ in range(3):
        kept = []
        for block in {packet.block for packet in packets}:
            of_block = [packet for packet in packets if packet.block == block]
            assert len(of_block) <= 256
            kept += [of_block[i].data for i in rng.permutation(len(of_block))[: of_block[0].k]]
        assert assemble(kept, len(given)) == given
    assert assemble([], len(given)) == [b""] * len(given)


def test_one_packet_less_loses_the_units_in_it_alone() -> None:
    given = units(400, 900, 400)
    packets = protect(cut(given, 500), 0.5)  # 4 of units, 2 of parity
    assert len(packets) == 6
    assert assemble([packet.data for packet in packets[:3]], 3) == [given[0], given[1], b""]


@pytest.mark.slow
def test_recovery_is_that_of_the_binomial_law() -> None:
    rate, k, n, items = 0.3, 5, 8, 4000
    step = PacketLoss(rate=rate, parity=(n - k) / k, mtu=252)
    whole = sum(not report.missing for _, report in sent_over(step, units(*[150] * k), items))
    expected = sum(math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(n - k + 1))
    # Where fewer than k arrive, a unit is missing unless those lost are parity alone; but then there are k.
    assert whole / items == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / items))


@pytest.mark.slow
def test_bursts_go_on_from_item_to_item() -> None:
    step = PacketLoss(rate=0.1, burst=5)
    lost = np.array([bool(report.missing) for _, report in sent_over(step, units(100), 20_000)])
    runs = [len([*group]) for gone, group in groupby(lost) if gone]
    assert lost.mean() == pytest.approx(0.1, abs=0.015)
    assert np.mean(runs) == pytest.approx(5, abs=4 * math.sqrt(20 / len(runs)))


@pytest.mark.parametrize("parity", [0, 0.25, 1])
def test_overhead_is_headers_and_parity(parity: float) -> None:
    count, size = 40, 1000
    ((_, report),) = sent_over(PacketLoss(rate=0, parity=parity), units(*[size] * count))
    theory = 8 * count * (HEADERS + parity * (HEADERS + 2 + size))
    assert report.overhead_bits == pytest.approx(theory, rel=0.01)
    assert (report.packets, report.resent, report.lost) == (round(count * (1 + parity)), 0, 0)


@pytest.mark.parametrize(
    ("trace", "retries", "resent", "rounds", "missing"),
    [
        (".", 3, 0, 0, 0),
        ("x", 3, 12, 3, 4),  # nothing arrives, ever
        ("x", 0, 0, 0, 4),
    ],
)
def test_what_is_missing_is_sent_again(trace: str, retries: int, resent: int, rounds: int, missing: int) -> None:
    ((_, report),) = sent_over(PacketLoss(rate=0, trace=trace, retries=retries), units(200, 200, 200, 200))
    assert (report.resent, report.rounds, len(report.missing)) == (resent, rounds, missing)
    without = sent_over(PacketLoss(rate=0), units(200, 200, 200, 200))[0][1].overhead_bits
    assert report.overhead_bits == without + 8 * report.resent * (200 + HEADERS)


@pytest.mark.parametrize(
    ("retries", "expected"),
    [
        # lost, sent again, rounds, missing in the end; in the order of where the trace begins
        (0, {(1, 0, 0, "3"), (1, 0, 0, "2"), (2, 0, 0, "13"), (3, 0, 0, "023"), (2, 0, 0, "12"), (2, 0, 0, "01"),
             (1, 0, 0, "0"), (0, 0, 0, "")}),
        (1, {(1, 1, 1, ""), (1, 1, 1, "2"), (2, 2, 1, "1"), (3, 3, 1, ""), (2, 2, 1, ""), (0, 0, 0, "")}),
        (3, {(1, 1, 1, ""), (1, 3, 3, ""), (2, 3, 2, ""), (3, 3, 1, ""), (2, 2, 1, ""), (0, 0, 0, "")}),
    ],
)  # fmt: skip
def test_retransmission_along_a_trace_that_was_followed_by_hand(
    retries: int, expected: set[tuple[int, int, int, str]]
) -> None:
    """Four packets begin anywhere in ``...x.xx.``, and what is sent again goes on where they ended."""
    step, found = PacketLoss(rate=0, trace="...x.xx.", retries=retries), set()
    for seed in range(40):
        _, report = PacketPath(step, seed, 2).carry(1, {"x": AccessUnit(tuple(units(200, 200, 200, 200)))})
        names = "".join(str(number) for _, number in report.missing)
        found.add((report.lost, report.resent, report.rounds, names))
    assert found == expected


def test_parity_saves_retransmission() -> None:
    """Of a block, only as many are sent again as it lacks."""
    step = PacketLoss(rate=0, trace="..xx", parity=0.25, retries=1)
    ((_, report),) = sent_over(step, units(200, 200, 200, 200))  # 5 packets, of which 2 or 3 are lost and 1 may be
    assert report.resent == report.lost - 1


def test_interleaving_spreads_a_burst_over_the_picture() -> None:
    given, trace = units(*[200] * 12), "x" * 3 + "." * 9
    missing = [number for _, number in sent_over(PacketLoss(rate=0, trace=trace, interleave=4), given)[0][1].missing]
    assert len(missing) == 3
    assert min(np.diff(missing), default=0) > 1 or missing[0] + 9 >= 12
    together = [number for _, number in sent_over(PacketLoss(rate=0, trace=trace), given)[0][1].missing]
    assert max(np.diff(together)) in (1, 10)  # one run, which may go on at the other end


@pytest.mark.slow
@pytest.mark.parametrize(("interleave", "apart"), [(1, 1), (2, 6), (4, 3)])
def test_neighbours_are_lost_together_as_the_chain_says_of_packets_so_far_apart(interleave: int, apart: int) -> None:
    """P(both) = rate² + rate (1 - rate) λ^apart, where λ is the chain's second eigenvalue."""
    rate, burst, items = 0.2, 5, 4000
    step = PacketLoss(rate=rate, burst=burst, interleave=interleave)
    pairs = [{("x", 0), ("x", 1)} <= {*report.missing} for _, report in sent_over(step, units(*[60] * 12), items)]
    expected = rate**2 + rate * (1 - rate) * (1 - 1 / burst / (1 - rate)) ** apart
    assert np.mean(pairs) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / items))


def test_key_frames_have_parity_of_their_own() -> None:
    step = PacketLoss(rate=0, parity=0, key_parity=1)
    counts = [sent_over(step, units(200, 200), key=key)[0][1].packets for key in (True, False)]
    assert counts == [4, 2]


def test_parameters_are_not_lost() -> None:
    path = PacketPath(PacketLoss(rate=1), seed=0, place=0)
    carried, report = path.carry(1, {"x": AccessUnit((b"tables", b"a", b"b"), parameters=1)})
    assert carried["x"].units == (b"tables", b"", b"")
    assert report.missing == (("x", 0), ("x", 1))


@pytest.mark.parametrize("damage", range(400))
def test_damaged_packets_are_lost_or_other_bytes_and_nothing_else(damage: int) -> None:
    rng = np.random.default_rng(damage)
    packets = [packet.data for packet in protect(cut(units(300, 900, 40), 200), 0.5)]
    mutants = []
    for data in packets:
        changed = bytearray(data)
        for _ in range(int(rng.integers(0, 4))):
            changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
        mutants.append(bytes(changed[: int(rng.integers(len(changed) + 1))] if rng.random() < 0.2 else changed))
    assert len(assemble(mutants, 3)) == 3
