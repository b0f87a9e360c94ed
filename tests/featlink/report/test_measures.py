"""Figures of other evaluators in the report: a column with an interval, and a curve."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from drawn_sweep import Made, make_drawn

from featlink.report.conditions import other_table, summary_table
from featlink.report.curves import curve_figures
from featlink.report.sweep import Sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two curves of three points; an evaluator that this process does not know counted objects."""
    rows = {
        f"{domain}: vvenc(qp={qp})": Made(f"{domain}: vvenc(qp={qp})", 0.9 - qp / 100, 100 / qp)
        for domain in ("feature", "image")
        for qp in (30, 40, 50)
    }
    made = make_drawn(tmp_path / "sweep", rows, images=9)
    counted = [
        msgspec.structs.replace(
            row, figures={"objects": {"mean": 2.0 + place}}, intervals={**row.intervals, "objects": (1.0, 3.0 + place)}
        )
        for place, row in enumerate(made.rows)
    ]
    return dataclasses.replace(made, rows=counted)


def test_a_column_with_an_interval(sweep: Sweep) -> None:
    summary = summary_table(sweep)
    place = [column.title for column in summary.columns].index("objects.mean")
    assert summary.rows[0][place] == "2.00 (1.0 to 3.0)"
    others = other_table(sweep)
    assert others is not None
    assert others.columns[-1].title == "objects.mean"
    assert {line[-1] for line in others.rows} == {f"{2 + i}.00 (1.0 to {3 + i}.0)" for i in range(2, 8)}


def test_a_curve_against_bits(sweep: Sweep) -> None:
    [figure] = [figure for figure in curve_figures(sweep) if figure.id == "objects-bits"]
    curves = [trace for trace in figure.traces if "lines" in trace["mode"]]
    assert [sorted(trace["y"]) for trace in curves] == [[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
    assert all(len(trace["error_y"]["array"]) == 3 for trace in curves)
    assert figure.layout["yaxis"]["title"]["text"] == "objects.mean"


def test_sweeps_without_have_neither(sweep: Sweep) -> None:
    bare = dataclasses.replace(sweep, rows=[msgspec.structs.replace(row, figures={}) for row in sweep.rows])
    assert len(summary_table(bare).columns) == len(summary_table(sweep).columns) - 1
    assert "objects-bits" not in [figure.id for figure in curve_figures(bare)]
