"""Decisions over sweeps whose right answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from drawn_sweep import CLEAN, Made, make_drawn

import featlink as fl
from featlink.channel.randomness import stream
from featlink.deciding.decision import Decision, decide, decision_blocks, decision_table, rate_intervals_table, to_dict
from featlink.deciding.query import make_query
from featlink.deciding.ranking import with_edge
from featlink.errors import CommandError
from featlink.report.sweep import Sweep

ROWS = {
    "image: jpeg(quality=80)": Made("image: jpeg(quality=80)", 0.59, 100, 20, 310),
    "image: jpeg(quality=10)": Made("image: jpeg(quality=10)", 0.30, 20, 20, 310),
    "small": Made("feature: pca(components=64) | vvenc(qp=30)", 0.585, 40, 300, 120),
    "image: gaussian_blur(sigma=1)": Made("image: gaussian_blur(sigma=1)", 0.6, 1, 1, 1),
    "feature: quantize(bits=4) | packet_loss(rate=0.1)": Made(
        "feature: quantize(bits=4) | packet_loss(rate=0.1)", 0.6, 1, 1, 1
    ),
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return make_drawn(tmp_path_factory.mktemp("drawn") / "sweep", ROWS)


def ask(sweep: Sweep, **query: float | str) -> Decision:
    return decide(sweep, make_query(**query))  # type: ignore[arg-type]


def test_the_fastest_that_is_good_enough_wins(sweep: Sweep) -> None:
    fast, slow = ask(sweep, rate=50, floor=50), ask(sweep, rate=1, floor=50)
    assert fast.best is not None
    assert slow.best is not None
    assert (fast.best.candidate.row.id, fast.call) == ("image: jpeg(quality=80)", "image")
    assert (slow.best.candidate.row.id, slow.call) == ("small", "feature")  # 420 + 320 against 330 + 800 ms
    assert slow.best.latency_ms == pytest.approx(420 + 320, rel=1e-3)
    assert slow.best.link_ms == pytest.approx(320, rel=1e-3)
    assert slow.best.frames_per_second == pytest.approx(1000 / 320, rel=1e-3)
    assert "send features by pca(components=64) | vvenc(qp=30)" in slow.sentence
    assert "send pixels by jpeg(quality=80)" in fast.sentence


def test_what_is_no_choice_is_left_out(sweep: Sweep) -> None:
    ids = {one.candidate.row.id for one in ask(sweep, rate=5).options}
    assert ids == {"clean.feature", "clean.image", "image: jpeg(quality=80)", "image: jpeg(quality=10)", "small"}


def test_parts_of_a_chain_are_told_apart(sweep: Sweep) -> None:
    [small] = [one.candidate for one in ask(sweep, rate=5).options if one.candidate.row.id == "small"]
    assert (small.reduction, small.codec, small.strength) == ("pca(components=64)", "vvenc", "qp=30")


def test_a_low_floor_lets_the_cheapest_win(sweep: Sweep) -> None:
    best = ask(sweep, rate=0.5, floor=20).best
    assert best is not None
    assert best.candidate.row.id == "image: jpeg(quality=10)"


def test_nothing_suffices(sweep: Sweep) -> None:
    decision = ask(sweep, rate=5, floor=99)
    assert (decision.best, decision.call, decision.rivals) == (None, "nothing", set())
    assert "nothing in this sweep reaches AP 99.0" in decision.sentence


def test_speeds_count_on_their_side(sweep: Sweep) -> None:
    options = {one.candidate.row.id: one for one in ask(sweep, rate=5).options}
    faster = {one.candidate.row.id: one for one in ask(sweep, rate=5, edge_speed=2, cloud_speed=4).options}
    for name, one in options.items():
        assert faster[name].edge_ms == pytest.approx(one.edge_ms / 2)
        assert faster[name].cloud_ms == pytest.approx(one.cloud_ms / 4)
        assert faster[name].link_ms == one.link_ms


def test_the_times_of_another_machine_count(tmp_path: Path, sweep: Sweep) -> None:
    other = {name: replace(made, edge_ms=10 * made.edge_ms) for name, made in {**CLEAN, **ROWS}.items()}
    edge = make_drawn(tmp_path / "edge", other, images=9, clean=False)
    options = {one.candidate.row.id: one for one in decide(sweep, make_query(rate=5), edge).options}
    for one in ask(sweep, rate=5).options:
        moved = options[one.candidate.row.id]
        assert moved.edge_ms == pytest.approx(10 * one.edge_ms, rel=1e-6)
        assert moved.cloud_ms == one.cloud_ms


def test_late_answers_count_as_not_detected(sweep: Sweep) -> None:
    for one in ask(sweep, rate=8, deadline=360).options:
        if one.candidate.row.id == "clean.image":  # 310 + 600 ms
            assert (one.on_time, one.ap) == (0, 0)
        if one.candidate.row.id == "image: jpeg(quality=10)":  # 330 + 20 ms, give or take 5 %
            assert 0.4 < one.on_time < 1
            assert one.ap == pytest.approx(0.3 * one.on_time, abs=0.02)
    relaxed = ask(sweep, rate=8, deadline=100_000)
    assert {one.on_time for one in relaxed.options} == {1.0}
    assert relaxed.options[0].ap == max(one.ap for one in relaxed.options)


def test_each_transfer_is_drawn_once_for_all_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = make_drawn(tmp_path / "sweep", {}, images=9)
    drawn: list[object] = []

    def counted(seed: int, *names: object) -> np.random.Generator:
        drawn.append(names)
        return stream(seed, *names)

    monkeypatch.setattr("featlink.deciding.query.stream", counted)
    assert len(ask(sweep, rate=8, deadline=500).rate_intervals) > 1
    assert len(drawn) == len(CLEAN) * 9


def test_with_a_deadline_what_is_as_accurate_is_too_close_to_call(tmp_path: Path) -> None:
    rows = {
        "near": Made("feature: vvenc(qp=22)", 0.6, 10, 10, 10),
        "far": Made("feature: vvenc(qp=40)", 0.4, 10, 10, 10),
    }
    decision = ask(make_drawn(tmp_path / "sweep", rows), rate=1000, deadline=10_000)
    assert decision.rivals == {"clean.feature", "clean.image", "near"} - {decision.options[0].candidate.row.id}
    assert decision.call == "too close to call"


def test_latencies_that_are_near_are_too_close_to_call(tmp_path: Path) -> None:
    rows = {
        "a": Made("image: vvenc(qp=22)", 0.6, 10, 10, 200),
        "b": Made("feature: vvenc(qp=22)", 0.6, 10, 200, 25),
        "c": Made("feature: vvenc(qp=23)", 0.6, 10, 200, 100),
    }
    decision = ask(make_drawn(tmp_path / "sweep", rows), rate=1000)
    assert [one.candidate.row.id for one in decision.options][:2] == ["a", "b"]  # 210 and 225 ms
    assert decision.rivals == {"b"}
    assert decision.call == "too close to call"
    assert "Too close to call against features by vvenc(qp=22)" in decision.sentence


def test_one_whose_interval_leaves_the_floor_open_says_so(tmp_path: Path) -> None:
    rows = {
        "under": Made("feature: vvenc(qp=30)", 0.495, 1, 10, 10),
        "far": Made("feature: vvenc(qp=50)", 0.2, 1, 1, 1),
    }
    decision = ask(make_drawn(tmp_path / "sweep", rows), rate=5, floor=50)
    options = {one.candidate.row.id: one for one in decision.options}
    assert (options["under"].meets, options["under"].maybe) == (False, True)
    assert (options["far"].meets, options["far"].maybe) == (False, False)
    assert "under" in decision.rivals
    assert "far" not in decision.rivals


def test_where_the_winner_changes(sweep: Sweep) -> None:
    """Against the closed form: 420 ms + 40 kB/R and 330 ms + 100 kB/R are equal at 60 kB in 90 ms."""
    stretches = ask(sweep, rate=5, floor=50).rate_intervals
    names = [(one.domain, one.name) for one in stretches]
    assert names[0] == ("feature", "pca(components=64) | vvenc(qp=30)")
    assert names[1] == ("image", "jpeg(quality=80)")
    assert stretches[0].high == stretches[1].low == pytest.approx(60 * 8 / 90, rel=2e-3)
    assert stretches[0].low == 0
    assert stretches[-1].high == float("inf")


def test_the_front_is_what_nothing_beats(sweep: Sweep) -> None:
    decision = ask(sweep, rate=5)
    for one in decision.options:
        beaten = any(o.ap >= one.ap and o.latency_ms < one.latency_ms for o in decision.options)
        assert beaten == (one.candidate.row.id not in decision.front)


def test_a_steady_trace_is_a_rate(tmp_path: Path, sweep: Sweep) -> None:
    (tmp_path / "steady.csv").write_text("seconds,mbps\n0,4\n3,4\n10,0\n")
    traced = decide(sweep, make_query(trace=tmp_path / "steady.csv", rtt=30))
    steady = ask(sweep, rate=4, rtt=30)
    assert traced.rate_intervals == []
    for one, other in zip(traced.options, steady.options, strict=True):
        assert one.candidate.row.id == other.candidate.row.id
        assert one.link_ms == pytest.approx(other.link_ms)


def test_tables_and_plain_data_say_the_same(sweep: Sweep) -> None:
    decision = ask(sweep, rate=1, floor=50)
    found = fl.decide(sweep.folder, rate=1, floor=50)
    assert found == to_dict(decision)
    assert found["best"] == "small"
    assert [one["id"] for one in found["options"]] == [one.candidate.row.id for one in decision.options]
    table = decision_table(decision)
    assert len(table.rows) == len(decision.options)
    assert list(table.rows[0][:4]) == ["feature", "pca(components=64)", "vvenc", "qp=30"]
    assert table.rows[0][-1] == "best"
    crossings = rate_intervals_table(decision)
    assert crossings is not None
    assert crossings.rows[0][0].startswith("below 5.3")


def test_the_report_answers_for_some_links(sweep: Sweep) -> None:
    blocks = decision_blocks(sweep)
    assert sum(isinstance(block, str) and block.startswith("Over ") for block in blocks) == 4
    only = Sweep(sweep.folder, [row for row in sweep.rows if row.domain == "image"], sweep.manifest)
    assert decision_blocks(only) == ["This sweep has not something to choose in both domains."]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"rate": 0},
        {"rate": 5, "loss": 1},
        {"rate": 5, "floor": 101},
        {"rate": 5, "floor": 50, "keep": 90},
        {"rate": 5, "deadline": 0},
        {"rate": 5, "edge_speed": -1},
    ],
)
def test_a_question_that_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(CommandError):
        make_query(**wrong)  # type: ignore[arg-type]


def test_a_sweep_without_samples(tmp_path: Path, sweep: Sweep) -> None:
    with pytest.raises(CommandError, match="no samples"):
        decide(Sweep(tmp_path, sweep.rows, sweep.manifest), make_query(rate=5))


def test_an_ap_that_the_sweep_has_not(sweep: Sweep) -> None:
    with pytest.raises(CommandError, match="segm and bbox"):
        ask(sweep, rate=5, kind="mask")


def test_a_devices_report_says_how_fast_the_edge_is(sweep: Sweep, tmp_path: Path) -> None:
    rows = [msgspec.structs.replace(row, timings={**row.timings, "backbone": 80.0}) for row in sweep.rows]
    manifest = {**sweep.manifest, "model": {"identity": "0123456789abcdef"}}
    measured, query, report = replace(sweep, rows=rows, manifest=manifest), make_query(rate=5), tmp_path / "camera.json"
    told = {"weights": "0123456789abcdef", "stages_ms": {"backbone": {"median": 320}}}
    report.write_text(json.dumps(told))
    slower, no_sweep = with_edge(query, measured, report)
    assert (slower.edge_speed, no_sweep) == (0.25, None)
    assert with_edge(query, measured, None) == (query, None)
    with pytest.raises(CommandError):
        with_edge(make_query(rate=5, edge_speed=2), measured, report)
    with pytest.raises(CommandError):
        with_edge(query, sweep, report)  # whose weights nobody knows
    for other in ("{}", "no JSON", json.dumps(told | {"weights": "0" * 16})):
        report.write_text(other)
        with pytest.raises(CommandError):
            with_edge(query, measured, report)
