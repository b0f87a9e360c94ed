"""Sweeps of one network at several split points: one report, one ranking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawn_sweep import CLEAN, Made, make_drawn
from typer.testing import CliRunner

from featlink.cli import app
from featlink.deciding.query import make_query
from featlink.errors import CommandError
from featlink.report.splits import conditions_table, cut_table, decide_cut, in_order, split_of
from featlink.report.sweep import Sweep

CODED = {
    "feature: vvenc(qp=32)": Made("feature: vvenc(qp=32)", 0.59, 60, 200, 100),
    "image: jpeg(quality=80)": Made("image: jpeg(quality=80)", 0.58, 400, 10, 300),
}


def sweep_at(folder: Path, split: str, edge_ms: float, kilobytes: float, **model: Any) -> Sweep:
    rows = {
        name: replace(made, edge_ms=edge_ms, kilobytes=kilobytes) if name.startswith("feature") else made
        for name, made in CODED.items()
    }
    sweep = make_drawn(folder / split, rows)
    manifest = sweep.manifest
    name = "maskrcnn_resnet50_fpn" + ("" if split == "p2-p6" else f"@{split}")
    manifest["model"] |= {"name": name, "identity": "a" * 16, "profile": "fast", **model}
    manifest["multiply_adds"] = {"backbone": edge_ms * 1e9, "heads": 5e9, "reductions": {}}
    (sweep.folder / "manifest.json").write_text(json.dumps(manifest))
    return sweep


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> list[Sweep]:
    folder = tmp_path_factory.mktemp("cuts")
    return [sweep_at(folder, "p2-p6", 200, 60), sweep_at(folder, "c2", 60, 70), sweep_at(folder, "stem", 20, 600)]


def test_the_earliest_comes_first_and_what_cannot_be_compared_is_refused(sweeps: list[Sweep], tmp_path: Path) -> None:
    assert [split_of(one) for one in in_order(sweeps)] == ["stem", "c2", "p2-p6"]
    with pytest.raises(CommandError, match="two of these sweeps are cut at c2"):
        in_order([*sweeps, sweeps[1]])
    with pytest.raises(CommandError, match="identity"):
        in_order([*sweeps, sweep_at(tmp_path / "other", "c2-c5", 100, 90, identity="b" * 16)])


def test_where_to_cut_depends_on_the_link(sweeps: list[Sweep]) -> None:
    ordered = in_order(sweeps)
    slow, fast = (decide_cut(ordered, make_query(rate=rate)) for rate in (2, 1000))
    assert slow.best is not None
    assert fast.best is not None
    # 60 + 70 kB at 2 Mbit/s + 100 ms is less than 200 + 60 kB or 20 + 600 kB; on a fast link the least work wins.
    assert slow.best.candidate.row.id == "c2: feature: vvenc(qp=32)"
    assert fast.best.candidate.row.id == "stem: feature: vvenc(qp=32)"
    assert "send features by vvenc(qp=32): cut at c2, AP" in slow.sentence
    assert sum(one.candidate.row.domain == "image" for one in slow.options) == 2  # once, not at every split
    table = cut_table(slow)
    assert table.columns[0].title == "cut"
    assert {cells[0] for cells in table.rows} == {"c2", "stem", "p2-p6", "–"}
    assert len({one.candidate.row.id for one in slow.options}) == len(slow.options)


def test_every_condition_has_its_costs(sweeps: list[Sweep]) -> None:
    table = conditions_table(in_order(sweeps))
    assert len(table.rows) == 3 * 2 + 2
    [cells] = [cells for cells in table.rows if cells[:2] == ["c2", "vvenc(qp=32)"]]
    assert cells[7:11] == ["60.0", "5.0", "60", "100"]


def test_the_commands_take_several_folders(sweeps: list[Sweep], tmp_path: Path) -> None:
    folders = [str(sweep.folder) for sweep in sweeps]
    done = CliRunner().invoke(
        app, ["report", *folders, "--markdown", str(tmp_path / "tables.txt")], catch_exceptions=False
    )
    assert done.exit_code == 0
    page = (sweeps[-1].folder / "splits.html").read_text()
    assert "Where to cut, by link rate" in page
    assert "Where to cut, by link rate" in (tmp_path / "tables.txt").read_text()
    done = CliRunner().invoke(app, ["decide", *folders, "--rate", "2", "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["best"].startswith("c2: ")
    with pytest.raises(CommandError, match="single pictures"):
        CliRunner().invoke(app, ["decide", *folders, "--rate", "2", "--fps", "5"], catch_exceptions=False)


def test_clean_rows_stay_clean(sweeps: list[Sweep]) -> None:
    assert set(CLEAN) <= set(sweeps[0].by_id)
    decision = decide_cut(in_order(sweeps), make_query(rate=1000))
    assert "clean" in {one.candidate.name for one in decision.options}
