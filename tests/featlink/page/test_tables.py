"""What the pages compute: waterfalls, runs' tables, metrics, decisions."""

from __future__ import annotations

import csv
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from drawn_sweep import Made, make_drawn
from synthetic_sweep import make_dataset, make_sweep

import featlink
from featlink.errors import CommandError
from featlink.page.explore import sweeps
from featlink.page.explore.decision import ASKED, answer, headline, leading
from featlink.page.explore.plots import plotly
from featlink.page.health import read_metrics, throughput
from featlink.page.play.waterfall import bars, html
from featlink.page.runs.table import comparison, row, to_csv
from featlink.report.curves import curve_figures
from featlink.report.sweep import Sweep, open_sweep

RUN = {"id": "ab" * 16, "name": "", "dataset": "d", "condition": "image: jpeg(quality=3)", "domain": "image"}
RUN |= {"done": 3, "total": 12, "created": "2026-01-02T03:04:05+00:00"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("out")
    make_sweep(folder / "group" / "one", make_dataset(folder / "data"))
    return open_sweep(folder / "group" / "one")


def metrics(ap: float | None, bits: float) -> dict[str, Any]:
    scores = None if ap is None else {"AP": ap, "AP50": ap}
    return {
        "run": RUN,
        "segm": scores,
        "bbox": {"AP": 0.5},
        "bits_per_image": bits,
        "bpp": 1.0,
        "fidelity": {"psnr_i": 30.0},
        "timings": {"heads": 100.0},
    }


def test_stages_follow_one_another_and_measuring_is_left_out() -> None:
    found = bars({"heads": 5, "fidelity": 99, "decode": 1, "transfer": 2, "mine": 3, "total": 110, "distort": 0})
    assert [(bar.place, bar.start, bar.ms) for bar in found] == [
        ("edge", 0, 1),
        ("link", 1, 2),
        ("cloud", 3, 5),
        ("cloud", 8, 3),
    ]
    assert "&lt;b&gt;: 5 ms" in html({"<b>": {"heads": 5}})


def test_a_runs_row_is_as_far_as_its_metrics() -> None:
    assert row(RUN, None)["share"] == 0.25
    assert row(RUN, None)["segm"] is None
    assert row(RUN, metrics(0.1234, 80_000))["segm"] == 12.3
    assert row(RUN, metrics(None, 80_000))["segm"] is None
    assert row(RUN, metrics(0.1, 80_000))["condition"] == "jpeg(quality=3)"


def test_two_runs_compared() -> None:
    rows = {title: rest for title, *rest in comparison([metrics(0.4, 80_000), metrics(0.3, 8_000)])}
    assert rows["Mask AP %"] == ["40.00", "30.00", "-10.00"]
    assert rows["kB per image"] == ["10.0", "1.0", "-9.0"]
    assert comparison([metrics(None, 1), metrics(0.3, 1)])[1][1:] == ("–", "30.00", "–")


def test_runs_as_csv() -> None:
    lines = list(csv.DictReader(to_csv([metrics(None, 1), metrics(0.3, 2)]).splitlines()))
    assert [line["segm.AP"] for line in lines] == ["", "0.3"]
    assert [line["bits_per_image"] for line in lines] == ["1", "2"]


def test_throughput_is_of_inference_alone() -> None:
    def text(answered: int, seconds: float, failed: int) -> str:
        labels = 'method="POST",route="/v1/infer"'
        return (
            f'# TYPE featlink_requests counter\nfeatlink_requests_total{{{labels},status="200"}} {answered}\n'
            f'featlink_requests_total{{{labels},status="503"}} {failed}\n'
            f'featlink_requests_total{{method="GET",route="/livez",status="200"}} 1000\n'
            f"# TYPE featlink_request_seconds histogram\nfeatlink_request_seconds_sum{{{labels}}} {seconds}\n"
            "# TYPE featlink_requests_in_flight gauge\nfeatlink_requests_in_flight 3\n"
            '# TYPE featlink_service info\nfeatlink_service_info{version="1",weights="ab"} 1\n'
        )

    before, after = read_metrics(text(10, 5, 0), 100.0), read_metrics(text(18, 9, 2), 120.0)
    assert (after.in_flight, after.failed, after.facts["weights"]) == (3, 2, "ab")
    assert throughput(deque([before, after])) == (0.5, pytest.approx(400))
    assert throughput(deque([before])) == (0.0, None)


def test_the_panel_answers_as_the_library_does(tmp_path: Path) -> None:
    rows = {"small": Made("feature: vvenc(qp=30)", 0.59, 40), "large": Made("image: jpeg(quality=80)", 0.59, 100)}
    sweep = make_drawn(tmp_path / "drawn", rows)
    asked = {"rate": 10.0, "rtt": 40.0, "edge_speed": 2.0, "cloud_speed": 4.0, "keep": 50.0}
    assert set(asked) == {control.name for control in ASKED.values()}
    told, whole = answer(sweep, asked), featlink.decide(sweep.folder, **asked)
    assert {**whole, "stretches": []} == told
    firsts = leading(told)
    assert set(firsts) == {"feature", "image"}
    assert next(iter(firsts.values()))["id"] == told["best"]
    for domain, first in firsts.items():
        assert first == next(one for one in whole["options"] if one["domain"] == domain)


def test_the_panels_headline() -> None:
    def option(domain: str, ms: float, good: bool = True) -> dict[str, Any]:
        return {"domain": domain, "ms": ms, "good_enough": good}

    two = [option("image", 600), option("image", 700), option("feature", 800)]
    assert headline({"call": "image", "options": two}) == "Send pixels: 200 ms (25 %) sooner than features"
    short = [option("image", 600), option("feature", 800, good=False)]
    assert headline({"call": "image", "options": short}) == "Send pixels"
    assert headline({"call": "nothing", "options": short}) == "Nothing keeps so much"
    assert headline({"call": "too close to call", "options": two}) == "Too close to call"


def test_sweeps_are_found_and_no_other_folder_is_read(sweep: Sweep) -> None:
    root = sweep.folder.parents[1]
    assert sweeps.names(root) == ["group/one"]
    assert sweeps.load(root, "group/one").rows == sweep.rows
    for other in ("../group/one", "data", str(sweep.folder)):
        with pytest.raises(CommandError, match="no finished sweep"):
            sweeps.load(root, other)
    assert sweeps.names(Path(root, "gone")) == []


def test_plots_know_their_rows_and_the_themes_colours(sweep: Sweep) -> None:
    figure = curve_figures(sweep)[0]
    points = [row for trace in figure.traces for row in trace.get("customdata", [])]
    assert points
    assert set(points) <= set(sweep.by_id)
    light, dark = (str(plotly(figure, dark=one)) for one in (False, True))
    assert "var(" not in light + dark
    assert light != dark
