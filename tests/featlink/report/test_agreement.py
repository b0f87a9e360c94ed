"""Agreement with the paper against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from featlink.paper import paper_rows
from featlink.report.conditions import agreement, by_table
from featlink.report.sweep import Sweep

share = st.floats(0, 1.2).map(lambda value: round(value, 2))  # with ties


@given(st.lists(st.tuples(share, share), min_size=3, max_size=40))
def test_equals_scipy(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    result = agreement(ours, theirs)
    assert result.error == pytest.approx(np.abs(np.subtract(ours, theirs)).mean())
    if len(set(ours)) > 1 and len(set(theirs)) > 1:
        assert result.spearman == pytest.approx(spearmanr(ours, theirs).statistic)
    else:
        assert result.spearman is None


def test_two_rows_have_no_rank_correlation() -> None:
    assert agreement([0.1, 0.2], [0.1, 0.4]).spearman is None
    assert agreement([], []).error is None


def test_a_sweep_of_the_paper(sweep: Sweep) -> None:
    ap = {row.id: row.segm["AP"] for row in sweep.rows if row.segm is not None}
    for table in ("table1", "table2", "table3", "table4", "table5", ""):
        names = [name for name in paper_rows() if name.startswith(f"paper.{table}")]
        ours = [ap[name] / ap[f"clean.{'image' if '.image.' in name else 'feature'}"] for name in names]  # type: ignore[operator]
        theirs = [paper_rows()[name].map / 40.3 for name in names]
        found = by_table(sweep, "segm")[table or "overall"]
        assert found.rows == len(names)
        assert found.spearman == pytest.approx(spearmanr(ours, theirs).statistic)
        assert found.error == pytest.approx(np.abs(np.subtract(ours, theirs)).mean())


def test_without_the_papers_rows_or_without_the_clean_ones(sweep: Sweep) -> None:
    for rows in ([row for row in sweep.rows if row.clean], [row for row in sweep.rows if not row.clean]):
        assert by_table(Sweep(sweep.folder, rows, {}), "segm")["overall"].rows == 0
