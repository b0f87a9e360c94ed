"""Break-even in closed form against brute force."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink.report.sweep import Sweep
from featlink.report.timing import Cost, break_even, cost, latency_figures, overlaps, stages, timed_pairs

costs = st.builds(Cost, ms=st.integers(0, 2000).map(float), bits=st.integers(0, 10**8).map(float))
RATES = np.logspace(-4, 7, 400)  # Mbit/s


def seconds(one: Cost, mbps: float) -> float:
    return one.ms / 1e3 + one.bits / (mbps * 1e6)


@given(costs, costs)
def test_who_is_faster_at_every_rate(feature: Cost, image: Cost) -> None:
    found = break_even(feature, image)
    for mbps in RATES:
        gain = seconds(image, mbps) - seconds(feature, mbps)
        if abs(gain) < 1e-9 * max(1, seconds(image, mbps)):
            continue  # too close to call in floating point
        faster = {
            "always": True,
            "never": False,
            "above": found.mbps is not None and mbps > found.mbps,
            "below": found.mbps is not None and mbps < found.mbps,
        }[found.faster]
        assert (gain > 0) == faster


@given(costs, costs)
def test_both_take_as_long_at_the_break_even(feature: Cost, image: Cost) -> None:
    mbps = break_even(feature, image).mbps
    if mbps is not None:
        assert seconds(feature, mbps) == pytest.approx(seconds(image, mbps), rel=1e-6)


@pytest.mark.parametrize(
    ("engine", "before", "expected"),
    [
        ({"name": "local", "threads": 0}, [], True),
        ({"name": "local", "threads": 1}, [], False),
        ({"name": "http", "threads": 0}, [], False),
        ({"name": "http", "threads": 0}, [{"engine": {"name": "local", "threads": 2}}], True),
    ],
)
def test_stages_overlapped_if_they_did_in_any_call(
    engine: dict[str, object], before: list[dict[str, object]], expected: bool
) -> None:
    assert overlaps(Sweep(Path(), [], {"engine": engine, "before": before})) is expected


def test_in_words() -> None:
    assert str(break_even(Cost(1, 1), Cost(1, 1))) == "no difference"
    assert str(break_even(Cost(1, 1), Cost(2, 2))) == "at any rate"
    assert str(break_even(Cost(2, 2), Cost(1, 1))) == "at no rate"
    assert str(break_even(Cost(0, 5e9), Cost(1000, 0))) == "above 5,000 Mbit/s"


def test_costs_leave_measuring_out_and_speed_up_the_cloud_alone(sweep: Sweep) -> None:
    feature, image = sweep.by_id["clean.feature"], sweep.by_id["clean.image"]
    assert cost(feature).ms == 5 + 200 + 3 + 20 + 210 + 10
    assert cost(image, 2.0).ms == 5 + 3 + 20 + (430 + 10) / 2
    assert [stage.name for stage in stages(feature)] == [
        "decode",
        "backbone",
        "serialize",
        "distort",
        "transfer",
        "heads",
        "encode",
    ]


def test_the_cloud_pays_for_decoding_and_restoring(sweep: Sweep) -> None:
    row = sweep.by_id["clean.feature"]
    more = {"reduce": 7.0, "compress": 11.0, "decompress": 13.0, "restore": 17.0}
    coded = msgspec.structs.replace(row, timings={**row.timings, **more})
    assert cost(coded).ms == cost(row).ms + 7 + 11 + 13 + 17
    assert cost(coded, 2.0).ms == cost(row, 2.0).ms + 7 + 11 + (13 + 17) / 2
    names = [stage.name for stage in stages(coded)]
    assert [name for name in names if name in {*more, "transfer"}] == [
        "reduce",
        "compress",
        "transfer",
        *list(more)[2:],
    ]


def test_pairs_are_of_equal_strength(sweep: Sweep) -> None:
    found = timed_pairs(sweep)
    assert (found[0][0].id, found[0][1].id) == ("clean.feature", "clean.image")
    assert len(found) == 1 + 6 + 3  # six QPs, three depths
    for feature, image in found:
        assert feature.condition.removeprefix("feature") == image.condition.removeprefix("image")


def test_waterfall_stages_follow_one_another(sweep: Sweep) -> None:
    for trace in latency_figures(sweep)[0].traces:
        ends = np.add(trace["base"], trace["x"])
        assert trace["base"][0] == 0
        assert list(trace["base"][1:]) == pytest.approx(list(ends[:-1]))


def test_one_domain_alone(sweep: Sweep) -> None:
    images = [row for row in sweep.rows if row.domain == "image"]
    assert latency_figures(Sweep(sweep.folder, images, sweep.manifest)) == []
