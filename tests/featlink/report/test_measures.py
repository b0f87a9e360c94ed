"""Figures of other evaluators in the report: a column with an interval, and a curve."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from drawn_sweep import Made, make_drawn

from featlink import results
from featlink.errors import CommandError
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


REGISTERED = """
import sys
from pathlib import Path

import featlink as fl
from featlink.results import load, save


@fl.register_evaluator
class Objects(fl.Evaluator):
    figures = (fl.Figure("objects.mean", "objects found", "%", 100),)
    primary = "objects.mean"


save(load(Path(sys.argv[1])), Path(sys.argv[1]))
"""


def test_an_evaluator_of_another_process_says_what_its_figures_are_called(sweep: Sweep) -> None:
    results.save(sweep.rows, sweep.folder)
    subprocess.run([sys.executable, "-c", REGISTERED, sweep.folder], check=True)
    others = other_table(Sweep(sweep.folder, results.load(sweep.folder), sweep.manifest))
    assert others is not None
    assert others.columns[-1].title == "objects found %"
    assert {line[-1] for line in others.rows} == {
        f"{100.0 * (2 + i):.2f} (100.0 to {100.0 * (3 + i):,.1f})" for i in range(2, 8)
    }
    with pytest.raises(CommandError, match=r"objects\.mean"):
        results.refuse_without_evaluators(sweep.folder)
    (sweep.folder / "figures.json").write_text("[{}]")
    with pytest.raises(CommandError, match="not a sweep's"):
        results.described_figures(sweep.folder)


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
