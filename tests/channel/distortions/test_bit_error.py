"""Bit errors against the binomial law, and against flips counted in the packed payload."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from featlink.channel.distortions import bit_error
from featlink.channel.distortions.base import Planes
from featlink.channel.distortions.bit_error import BitError, error_positions, flip
from featlink.channel.randomness import stream
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError
from featlink.shared.frames.bitstream import dtype_for, pack

RANGE = np.array([[0, 1]], np.float32)


def samples(shape: tuple[int, ...], bits: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << bits, shape).astype(dtype_for(bits))


def positions(count: int, ber: float, seed: int) -> np.ndarray:
    return np.concatenate([np.empty(0, int), *error_positions(count, ber, stream(seed))])


@pytest.mark.parametrize("ber", [1e-4, 1e-2, 0.3, 0.5, 0.95])
def test_errors_are_binomial_uniform_and_independent(ber: float) -> None:
    count = 1_000_000
    found = positions(count, ber, 0)
    assert len(found) == pytest.approx(count * ber, abs=3 * math.sqrt(count * ber * (1 - ber)))
    assert (np.diff(found) > 0).all()
    assert found[0] >= 0
    assert found[-1] < count
    assert kstest(found[:: len(found) // 90] / count, "uniform").pvalue > 0.01
    both = np.mean(np.diff(found) == 1)  # an error follows an error as often as anything
    assert both == pytest.approx(ber, abs=4 * math.sqrt(ber * (1 - ber) / len(found)))


@pytest.mark.parametrize("bits", [1, 5, 8, 10, 16])
@pytest.mark.parametrize("shape", [(256, 13, 17), (3, 37, 51)])
def test_the_payload_differs_in_the_errors_and_nowhere_else(shape: tuple[int, ...], bits: int) -> None:
    clean = samples(shape, bits)
    out = BitError(ber=0.01).apply(Planes(clean, bits, RANGE), stream(5)).samples
    sent, received = (pack(values.reshape(-1), bits) for values in (clean, out))
    flips = np.unpackbits(sent ^ received)
    assert flips.sum() == len(positions(clean.size * bits, 0.01, 5))


@pytest.mark.parametrize("bits", [3, 8, 13])
def test_no_bit_of_a_sample_is_preferred(bits: int) -> None:
    clean = samples((3, 200, 200), bits)
    flipped = clean ^ BitError(ber=0.02).apply(Planes(clean, bits, RANGE), stream(6)).samples
    assert chisquare([np.count_nonzero(flipped >> bit & 1) for bit in range(bits)]).pvalue > 0.01


@given(st.integers(1, 16), st.integers(1, 20), st.data())
def test_flips_exactly_those_bits(bits: int, count: int, data: st.DataObject) -> None:
    chosen = sorted(data.draw(st.sets(st.integers(0, count * bits - 1))))
    clean = samples((count,), bits)
    out = clean.copy()
    flip(out, bits, np.array(chosen, int))
    assert chosen == [s * bits + b for s in range(count) for b in range(bits) if (int(clean[s]) ^ int(out[s])) >> b & 1]


def test_the_extremes() -> None:
    assert len(positions(1000, 0.0, 0)) == 0
    assert len(positions(10**9, 5e-324, 0)) == 0
    assert positions(40_000, 1.0, 0).tolist() == list(range(40_000))


def test_cost_grows_with_the_errors_not_with_the_bits() -> None:
    assert 1 < len(positions(10**15, 1e-14, 0)) < 30  # 10 expected; a number per bit would take weeks


def test_the_draws_at_once_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = positions(10_000, 0.01, 0).tolist()
    monkeypatch.setattr(bit_error, "_DRAWS", 7)
    assert positions(10_000, 0.01, 0).tolist() == expected


@pytest.mark.parametrize("wrong", ["ber=-0.1", "ber=1.01", ""])
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(ConditionError, match="bit_error: ber: "):
        chain(parse(f"bit_error({wrong})"))
