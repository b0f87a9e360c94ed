"""The coding section: sets of named rows, curves of others, and the CSV of points."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from drawn_sweep import CLEAN, Made, make_drawn

from featlink.errors import CommandError
from featlink.report.coding import (
    FCM,
    SEQ,
    Kind,
    coding_bd_table,
    coding_blocks,
    coding_curves,
    coding_figure,
    external_curves,
    rate_csv,
)
from featlink.report.curves import Curve, Figure
from featlink.report.sweep import Sweep
from featlink.report.table import Table
from featlink.results import Row

APS = (0.55, 0.5, 0.4, 0.25)
SIZES = {"pixels": 1.0, "tiled": 8.0, "pca": 2.0, "learned": 0.5}
TEXTS = {
    "pixels": "image: vvenc(qp={qp}) @ at=original",
    "tiled": "feature: vvenc(qp={qp}, bit_depth=10)",
    "pca": "feature: pca(components=256) | vvenc(qp={qp}, bit_depth=10)",
    "learned": "feature: pca(components=7) | vvenc(qp={qp}, bit_depth=10)",  # stands for what is to come
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    rows = {
        f"fcm.{name}.qp{20 + 5 * i}": Made(text.format(qp=20 + 5 * i), ap, 100 * SIZES[name] / 2**i)
        for name, text in TEXTS.items()
        for i, ap in enumerate(APS)
    }
    return make_drawn(tmp_path_factory.mktemp("fcm") / "sweep", rows)


def test_every_set_is_a_curve_with_intervals(sweep: Sweep) -> None:
    curves = coding_curves(sweep)
    assert [one.name for one in curves] == list(TEXTS)
    for one in curves:
        assert [bpp for bpp, _ in one.points] == pytest.approx(
            [0.8 * SIZES[one.name] / 2**i for i in (3, 2, 1, 0)], rel=0.01
        )
        assert one.draws is not None
    figure = coding_figure(sweep, curves, [])
    assert figure.layout["xaxis"]["type"] == "log"
    assert all(len(trace["error_y"]["array"]) == 4 for trace in figure.traces)
    assert [trace["x"] == sorted(trace["x"]) for trace in figure.traces] == [True] * 4


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("fcm.pca.step0.4", FCM, "pca"),
        ("fcm.pixels.qp22", FCM, "pixels"),
        ("seq.features.bottleneck.step2.8", SEQ, "features.bottleneck"),
        ("seq.pixels.live.qp27", SEQ, "pixels.live"),
        ("seq.pixels.live.qp27", FCM, None),
    ],
)
def test_a_name_tells_its_set(name: str, kind: Kind, found: str | None) -> None:
    assert kind.set_of(Row(name, "feature: identity", "feature", 1, {}, None, 8, 1, {}, {}, [])) == found


def test_bd_rates_are_against_pixels_and_tiled(sweep: Sweep) -> None:
    table = coding_bd_table(sweep, [])
    assert table is not None
    segm = {(line[0], line[1]): line for line in table.rows if line[2] == "segm"}
    assert len(segm) == 6
    assert len(table.rows) == 12
    assert segm["tiled", "pixels"][3].startswith("+700.0 % (")
    assert segm["pca", "tiled"][3].startswith("−75.0 % (")
    assert segm["learned", "pixels"][3].startswith("−50.0 % (")
    assert segm["learned", "pixels"][4] == "4 / 4"


def test_three_points_are_too_few(tmp_path: Path) -> None:
    rows = {
        f"fcm.{name}.qp{20 + 5 * i}": Made(TEXTS[name].format(qp=20 + 5 * i), APS[i], SIZES[name] / 2**i)
        for name in ("pixels", "pca")
        for i in range(3)
    }
    table = coding_bd_table(make_drawn(tmp_path / "sweep", rows, images=8), [])
    assert table is not None
    assert "4 are needed" in table.rows[0][3]


def test_the_section_says_what_flatters_features(sweep: Sweep) -> None:
    blocks = coding_blocks(sweep)
    assert "effective rank of 51 to 77 of 256" in str(blocks[0])
    assert [type(block) for block in blocks[1:]] == [Figure, Table, Table]
    other = Sweep(sweep.folder, sweep.rows, {**sweep.manifest, "model": {"weights": "coco"}})
    assert isinstance(coding_blocks(other)[0], Figure)


def test_no_rows_and_no_curves_make_no_section(tmp_path: Path) -> None:
    sweep = make_drawn(tmp_path / "sweep", {}, images=8)
    assert coding_blocks(sweep) == []


def test_curves_of_others_stand_beside_ours(tmp_path: Path, sweep: Sweep) -> None:
    (tmp_path / "points.csv").write_text("AP, bpp, who\n55,0.4,x\n50,0.2,x\n40,0.1,x\n25,0.05,x\n")
    [theirs] = external_curves([f"half={tmp_path}/points.csv"])
    assert theirs.points[0] == (0.05, 0.25)
    blocks = coding_blocks(sweep, [theirs])
    assert any(isinstance(block, Figure) and block.traces[-1]["name"] == "half" for block in blocks)
    table = coding_bd_table(sweep, [theirs])
    assert table is not None
    [cell] = [line[3] for line in table.rows if line[:3] == ["half", "pixels", "segm"]]
    assert float(cell.partition(" ")[0].replace("−", "-")) == pytest.approx(-50, abs=5)


def test_without_named_sets_ours_are_the_families(tmp_path: Path) -> None:
    rows = {f"q{qp}": Made(f"image: jpeg(quality={qp})", 0.1 + qp / 200, qp) for qp in (10, 30, 50, 80)}
    sweep = make_drawn(tmp_path / "sweep", rows, images=8)
    theirs = Curve("theirs", [(0.1, 0.15), (0.2, 0.3), (0.3, 0.4), (0.5, 0.5)])
    assert [one.name for one in coding_curves(sweep, [theirs])] == ["image: jpeg"]
    table = coding_bd_table(sweep, [theirs])
    assert table is not None
    assert {(line[0], line[1]) for line in table.rows} == {("theirs", "image: jpeg")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bits,AP\n1,2\n",
        "bpp,AP\n",
        "bpp,AP\n1\n",
        "bpp,AP\n0,1\n",
        "bpp,AP\n1,-1\n",
        "bpp,AP\nx,1\n",
        "bpp,AP\n1,101\n",
    ],
)
def test_what_is_no_curve_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "wrong.csv").write_text(text)
    with pytest.raises(CommandError, match=r"wrong\.csv"):
        external_curves([f"x={tmp_path}/wrong.csv"])


@pytest.mark.parametrize("given", [["x"], ["=y.csv"], ["x="], ["a=gone.csv"], []])
def test_curves_are_named(given: list[str]) -> None:
    if given:
        with pytest.raises(CommandError):
            external_curves(given)
    else:
        assert external_curves(given) == []


def test_points_as_csv(sweep: Sweep) -> None:
    lines = list(csv.DictReader(io.StringIO(rate_csv(sweep))))
    assert len(lines) == len(CLEAN) + 16
    assert ",".join(lines[0]) == (
        "curve,domain,condition,QP,bpp,AP,AP_low,AP_high,AP_bbox,AP_bbox_low,AP_bbox_high,encode_s,decode_s"
    )
    by_curve = [line for line in lines if line["curve"] == "pca"]
    assert [line["QP"] for line in by_curve] == ["20", "25", "30", "35"]
    row = sweep.by_id["fcm.pca.qp20"]
    assert float(by_curve[0]["AP"]) == pytest.approx(100 * (sweep.ap(row) or 0), abs=1e-4)
    assert float(by_curve[0]["bpp"]) == pytest.approx(row.bpp, rel=1e-5)
    assert float(by_curve[0]["encode_s"]) == pytest.approx(0.09, rel=0.01)
    assert float(by_curve[0]["decode_s"]) == pytest.approx(0.06, rel=0.01)
