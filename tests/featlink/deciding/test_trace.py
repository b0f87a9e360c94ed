"""Traces against the sum they stand for, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink.channel.link import Trace
from featlink.deciding.query import read_trace
from featlink.errors import CommandError

rates = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=6).filter(any)


@given(rates, st.floats(0, 20), st.floats(0.01, 20))
def test_delivery_ends_when_the_bits_have_come(steps: list[float], start: float, megabits: float) -> None:
    """Against adding up milliseconds."""
    trace = Trace(np.arange(len(steps) + 1.0), np.concatenate([[0.0], np.cumsum(steps)]))
    [ms] = trace.deliver_ms([start], [1e6 * megabits])

    def delivered(until: float) -> float:
        edges = np.unique(np.concatenate([[start, until], np.arange(np.ceil(start), np.floor(until) + 1)]))
        middles = (edges[:-1] + edges[1:]) / 2
        return float(np.sum(np.diff(edges) * np.array(steps)[(middles % len(steps)).astype(int)]))

    end = start + ms / 1e3
    assert delivered(end) == pytest.approx(megabits, abs=1e-6)
    assert delivered(max(start, end - 1e-3)) < megabits  # no later than needed


def test_mahimahi(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("0\n500\n500\n1000\n")
    trace = read_trace(tmp_path / "trace")
    assert trace.duration == 1.0
    assert trace.mean_mbps == pytest.approx(4 * 12_000 / 1e6)
    assert trace.deliver_ms([0.001, 0.001], [24_000, 24_001]) == pytest.approx([499, 998], abs=1.01)


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("mbps, seconds, note\n2,0,a\n0,1,b\n4,1.5,\n9,2,\n")
    trace = read_trace(tmp_path / "t.csv")
    assert (trace.duration, trace.mean_mbps) == (2.0, 2.0)
    assert trace.deliver_ms([0.5], [2e6]).tolist() == [1250.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seconds,rate\n0,1\n1,1\n",
        "seconds,mbps\n0,1\n",
        "seconds,mbps\n0,1\n0,2\n",
        "seconds,mbps\n1,1\n2,2\n",
        "seconds,mbps\n0,-1\n1,1\n",
        "seconds,mbps\n0,nan\n1,1\n",
        "seconds,mbps\n0,x\n1,1\n",
        "seconds,mbps\n0,0\n1,5\n",
        "5\n3\n",
        "5\nx\n",
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "wrong").write_text(text)
    with pytest.raises(CommandError):
        read_trace(tmp_path / "wrong")


def test_a_trace_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        read_trace(tmp_path / "gone")
