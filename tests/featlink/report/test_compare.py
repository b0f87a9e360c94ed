"""Two sweeps side by side."""

from __future__ import annotations

import dataclasses

import msgspec

from featlink.report.conditions import compare_page, compare_table
from featlink.report.html import render
from featlink.report.sweep import Sweep


def test_a_sweep_with_itself(sweep: Sweep) -> None:
    table = compare_table(sweep, sweep)
    assert len(table.rows) == len(sweep.rows)
    assert {cell for row in table.rows for cell in (row[4], row[7], row[10])} == {"0.00", "0.0"}
    assert f"{len(sweep.rows)} of {len(sweep.rows)} common" in compare_page(sweep, sweep).statement


def test_differences_and_what_only_one_has(sweep: Sweep) -> None:
    row = sweep.by_id["paper.table5.feature.qp40"]
    assert row.segm is not None
    assert row.segm["AP"] is not None
    changed = msgspec.structs.replace(
        row,
        segm={**row.segm, "AP": row.segm["AP"] - 0.0123},
        bits_per_image=row.bits_per_image * 1.1,
        fidelity={**row.fidelity, "psnr_f": (row.fidelity["psnr_f"] or 0) + 0.5},
    )
    rows = [changed if one.id == row.id else one for one in sweep.rows if one.id != "clean.image"]
    other = dataclasses.replace(sweep, rows=rows)
    table = compare_table(sweep, other)
    [line] = [line for line in table.rows if line[0] == "vvenc(qp=40)" and line[1] == "feature"]
    assert line[2:5] == [f"{100 * row.segm['AP']:.1f}", f"{100 * row.segm['AP'] - 1.23:.1f}", "−1.23"]
    assert line[7] == "0.00"
    assert line[10] == "+10.0"
    assert line[11:] == ["+0.50", "0.000", "–", "–"]
    assert table.notes == ["only in A: 1 conditions"]
    assert f"{len(rows) - 1} of {len(rows)} common" in render(compare_page(sweep, other))
