"""The paper's numbers as typed in."""

from __future__ import annotations

import pytest

from featlink.paper import CLEAN_MAP, paper_rows
from featlink.shared.conditions.names import NAMED


def test_a_row_for_every_name_in_order() -> None:
    assert list(paper_rows()) == [name for name in NAMED if name.startswith("paper.")]
    assert len(paper_rows()) == 33


def test_features_have_no_image_fidelity() -> None:
    for name, row in paper_rows().items():
        expected = {"psnr_f", "ssim_f"} | ({"psnr_i", "ssim_i"} if ".image." in name else set())
        assert set(row.fidelity) == expected


def test_values_are_possible() -> None:
    for row in paper_rows().values():
        assert 0 < row.map < CLEAN_MAP
        assert all(0 < row.fidelity[name] < 1 for name in row.fidelity if name.startswith("ssim"))
        assert all(14 < row.fidelity[name] < 60 for name in row.fidelity if name.startswith("psnr"))


@pytest.mark.parametrize("parameter", ["sigma", "factor", "qp"])
def test_stronger_is_never_better(parameter: str) -> None:
    """mAP falls with every strength but bits, where it rises: a slip of the finger would show."""
    for domain in ("feature", "image"):
        rows = [row for name, row in paper_rows().items() if f".{domain}.{parameter}" in name]
        for table in {row.id.split(".")[1] for row in rows}:
            for window in ("-window21", "-window5", ""):
                curve = [r.map for r in rows if r.id.split(".")[1] == table and r.id.endswith(window)]
                if window or table != "table1":
                    assert curve == sorted(curve, reverse=True)


def test_quantisation_is_the_uniform_error_theory() -> None:
    """8 and 4 bits of samples in 0..255: step²/12."""
    assert paper_rows()["paper.table4.feature.bits8"].fidelity["psnr_f"] == pytest.approx(58.92, abs=0.01)
    assert paper_rows()["paper.table4.feature.bits4"].fidelity["psnr_f"] == pytest.approx(34.31, abs=0.01)
