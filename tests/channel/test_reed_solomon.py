"""The erasure code: by hand where it can be, and every choice of k packets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from featlink.channel.reed_solomon import MOST_IN_BLOCK, parity_packets, recover


def test_of_one_source_parity_is_the_source_over_the_index() -> None:
    # 2 · 0x8E = 0x11C, which is 1 modulo 0x11D; 4 · 0x47 = 0x11C too; 3 · 0xF4 = 0x1E8 ^ 0xF4 = 0x11C
    assert parity_packets([b"\x01\x02"], 4) == [b"\x01\x02", b"\x8e\x01", b"\xf4\xf5", b"\x47\x8e"]


@pytest.mark.parametrize(("k", "more"), [(1, 3), (3, 4), (5, 2), (4, 0)])
def test_any_k_packets_are_enough(k: int, more: int) -> None:
    rng = np.random.default_rng(k)
    sources = [rng.bytes(11) for _ in range(k)]
    block = dict(enumerate([*sources, *parity_packets(sources, more)]))
    for arrived in combinations(block, k):
        assert recover({index: block[index] for index in arrived}, k) == sources
    assert recover(block, k) == sources


def test_the_largest_block() -> None:
    rng = np.random.default_rng(0)
    k = MOST_IN_BLOCK // 2
    sources = [rng.bytes(3) for _ in range(k)]
    assert recover(dict(enumerate(parity_packets(sources, k), start=k)), k) == sources
