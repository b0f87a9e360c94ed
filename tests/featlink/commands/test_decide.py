"""``featlink decide`` and the report's curves and points, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_sweep import Made, make_drawn
from typer.testing import CliRunner

import featlink as fl
from featlink.cli import app
from featlink.errors import CommandError
from featlink.report.sweep import Sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    rows = {
        f"fcm.{name}.qp{qp}": Made(f"{text}vvenc(qp={qp})", ap, size / (qp - 20))
        for name, text, size in (("pixels", "image: ", 100), ("tiled", "feature: ", 400))
        for qp, ap in ((22, 0.59), (27, 0.5), (32, 0.4), (37, 0.3))
    }
    return make_drawn(tmp_path_factory.mktemp("decide") / "sweep", rows, images=12)


def run(*command: str) -> str:
    result = CliRunner().invoke(app, list(command), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_a_table_the_borders_and_a_sentence(sweep: Sweep) -> None:
    text = run("decide", str(sweep.folder), "--rate", "5", "--floor", "55", "--top", "3")
    assert "What to send, the best first" in text
    assert "Where the winner changes" in text
    assert fl.decide(sweep.folder, rate=5, floor=55)["sentence"] in text


def test_json_is_what_python_returns(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("seconds,mbps\n0,1\n5,20\n10,0\n")
    trace = str(tmp_path / "trace.csv")
    found = json.loads(run("decide", str(sweep.folder), "--trace", trace, "--deadline", "700", "--json"))
    again = json.loads(json.dumps(fl.decide(sweep.folder, trace=trace, deadline=700)))
    assert found == again
    assert found["stretches"] == []
    assert any(0 < one["on_time"] < 1 for one in found["options"])


def test_no_link_is_one_line(sweep: Sweep) -> None:
    with pytest.raises(CommandError, match="give the link's rate"):
        run("decide", str(sweep.folder))


@pytest.mark.slow
def test_a_report_with_others_curve_and_points(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text("bpp,AP\n0.1,0.3\n0.2,0.4\n0.4,0.5\n0.8,0.55\n")
    page, points = tmp_path / "report.html", tmp_path / "rates.csv"
    curve = f"theirs={tmp_path}/theirs.csv"
    text = run("report", str(sweep.folder), "--out", str(page), "--curve", curve, "--rates", str(points))
    assert str(points) in text
    html = page.read_text()
    for shown in ("theirs", "Which to send", "Feature coding", "95 % interval over images"):
        assert shown in html
    assert points.read_text().startswith("curve,domain,condition,QP,bpp,AP")
