"""Random streams depend on their names alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink.channel.randomness import stream

NAMES = st.lists(st.integers() | st.text(max_size=5) | st.none(), max_size=4).map(tuple)


def numbers(seed: int, *names: object) -> list[int]:
    return stream(seed, *names).integers(0, 2**63, 4).tolist()


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), NAMES)
def test_a_stream_can_be_had_again(seed: int, names: tuple[object, ...]) -> None:
    first = numbers(seed, *names)
    numbers(seed + 1, *names)
    assert numbers(seed, *names) == first


@given(st.tuples(st.integers(0, 99), NAMES), st.tuples(st.integers(0, 99), NAMES))
def test_streams_of_other_names_are_others(one: tuple[int, tuple], other: tuple[int, tuple]) -> None:
    if one != other:
        assert numbers(one[0], *one[1]) != numbers(other[0], *other[1])


def test_names_do_not_run_together() -> None:
    uses = [(), ("",), ("1",), (1,), (1, 1), (11,), ("1", 1), ("p2", "noise"), ("noise", "p2"), ("p2noise",), (None,)]
    assert len({tuple(numbers(0, *use)) for use in uses}) == len(uses)


def test_the_numbers_never_change() -> None:
    """Results of years ago can be had again, on any platform, whatever Python's hash seed."""
    assert stream(7, 42, "p2").integers(0, 1000, 5).tolist() == [985, 977, 757, 699, 551]
    program = "from featlink.channel.randomness import stream; print(stream(7, 42, 'p2').integers(0, 1000, 5).tolist())"
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[985, 977, 757, 699, 551]"


def test_neighbouring_streams_are_uncorrelated() -> None:
    noise = np.stack([stream(0, image, level).normal(size=4000) for image in range(5) for level in ("p2", "p3")])
    correlation = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)
    assert np.abs(noise.mean(axis=1)).max() < 5 / np.sqrt(4000)
