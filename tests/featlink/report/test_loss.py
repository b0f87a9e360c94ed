"""The section of packet loss: curves by rate and burst, the best protection, and who survives."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_sweep import CLEAN, Made, make_drawn

from featlink.report.curves import Figure
from featlink.report.loss import loss_blocks, loss_curves, loss_findings
from featlink.report.sweep import Sweep
from featlink.report.table import Table

CODERS = {
    "feature": "feature: bottleneck(step=4) | entropy(stripes=4){loss} @ bit_depth=10",
    "image": "image: vvenc(qp=32){loss} @ at=original",
}


def rows() -> dict[str, Made]:
    made = dict(CLEAN)
    for domain, text in CODERS.items():
        for parity in (0, 0.5):
            for loss, burst in ((0, 1), (0.1, 1), (0.3, 1), (0.1, 5), (0.3, 5)):
                falls = 0.4 if domain == "feature" else 0.9  # features lose less
                ap = 0.5 * (1 - falls * loss * (1 if parity == 0 else 0.2 + (loss > 0.2)))
                step = f" | packet_loss(rate={loss:g}, burst={burst:g}, parity={parity:g})"
                made[f"loss.low.{domain}.parity{parity:g}.lost{loss:g}-{burst}"] = Made(text.format(loss=step), ap, 6)
    return made


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return make_drawn(tmp_path_factory.mktemp("loss") / "sweep", rows())


def test_a_curve_for_each_domain_protection_and_burst(sweep: Sweep) -> None:
    curves = loss_curves(sweep)
    assert {(one.rate, one.burst, one.domain) for one in curves} == {
        ("low", burst, domain) for burst in (1.0, 5.0) for domain in CODERS
    }
    assert len(curves) == 8
    assert all(sorted(one.rows) == [0, 0.1, 0.3] for one in curves)  # what loses nothing is on both bursts' curves


def test_figures_and_the_table_of_the_best(sweep: Sweep) -> None:
    first, second, table = loss_blocks(sweep)
    assert isinstance(first, Figure)
    assert isinstance(second, Figure)
    assert first.id != second.id
    assert [trace["x"] for trace in first.traces] == [[0, 10, 30]] * 4
    assert all(len(trace["error_y"]["array"]) == 3 for trace in first.traces)
    assert isinstance(table, Table)
    assert len(table.rows) == 2 * 3
    at_10 = table.rows[1]
    assert at_10[:3] == ["low", "independent", "10"]
    assert "parity=0.5" in at_10[3]
    at_30 = table.rows[2]
    assert "parity" not in at_30[3]  # where it is no use here
    assert at_30[-1].startswith("+")


def test_who_survives_is_said_with_the_losses(sweep: Sweep) -> None:
    independent, bursts = loss_findings(sweep)
    assert "independent losses at the rate low" in independent
    assert "features at" in independent
    assert "30 %" in independent
    assert "bursts of 5" in bursts


def test_other_sweeps_have_no_such_section(tmp_path: Path) -> None:
    plain = make_drawn(tmp_path / "sweep", {**CLEAN, "a": Made("feature: packet_loss(rate=0.1)", 0.4, 900)})
    assert loss_blocks(plain) == []
    assert loss_findings(plain) == []
