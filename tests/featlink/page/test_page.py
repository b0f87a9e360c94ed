"""What the pages compute: waterfalls, tables of runs, decisions, equal bits; the order of answers."""

from __future__ import annotations

import asyncio
import csv
import math
from pathlib import Path
from typing import Any

import pytest
from drawn_sweep import Made, make_drawn
from synthetic_sweep import make_dataset, make_sweep

import featlink
from featlink.dataset import open_dataset
from featlink.errors import CommandError
from featlink.page.context import Latest, PageSettings
from featlink.page.explorer import (
    EXAMPLE,
    QUESTION,
    data_folder,
    decision,
    example,
    example_note,
    headline,
    leading,
    load_sweep,
    plotly,
    sweep_names,
)
from featlink.page.forms import Control, Scale
from featlink.page.pictures import PictureStore, equal_bits
from featlink.page.results import stage_bars, waterfall
from featlink.page.runs import table_row, to_csv
from featlink.report.curves import curve_figures
from featlink.report.sweep import Sweep, open_sweep
from featlink.shared.service.settings import reachable
from featlink.starter.bundle import SCENES

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
    bars = stage_bars({"heads": 5, "fidelity": 99, "decode": 1, "transfer": 2, "total": 110, "distort": 0})
    assert [(place, ms) for place, _, ms in bars] == [("edge", 1), ("link", 2), ("cloud", 5)]
    html = waterfall({"<b>": bars})
    assert "&lt;b&gt;: 8 ms" in html
    assert "margin-left:37.50%;width:62.50%" in html


def test_a_runs_row_is_as_far_as_its_metrics() -> None:
    assert table_row(RUN, None)["share"] == 0.25
    assert "segm AP %" not in table_row(RUN, None)
    assert table_row(RUN, metrics(0.1234, 80_000))["segm AP %"] == pytest.approx(12.34)
    assert table_row(RUN, metrics(0.1234, 80_000))["kB per image"] == 10
    assert "segm AP %" not in table_row(RUN, metrics(None, 80_000))
    assert table_row(RUN, metrics(0.1, 80_000))["condition"] == "jpeg(quality=3)"


def test_runs_as_csv() -> None:
    lines = list(csv.DictReader(to_csv([metrics(None, 1), metrics(0.3, 2)]).splitlines()))
    assert [line["segm.AP"] for line in lines] == ["", "0.3"]
    assert [line["bits_per_image"] for line in lines] == ["1", "2"]


def test_the_panel_answers_as_the_library_does(tmp_path: Path) -> None:
    rows = {"small": Made("feature: vvenc(qp=30)", 0.59, 40), "large": Made("image: jpeg(quality=80)", 0.59, 100)}
    sweep = make_drawn(tmp_path / "drawn", rows)
    asked = {"rate": 10.0, "rtt": 40.0, "edge_speed": 2.0, "cloud_speed": 4.0, "keep": 50.0}
    assert set(asked) == {control.name for control in QUESTION.values()}
    told, whole = decision(sweep, asked), featlink.decide(sweep.folder, **asked)
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
    assert sweep_names(root) == ["group/one", EXAMPLE]
    assert load_sweep(root, "group/one").rows == sweep.rows
    for other in ("../group/one", "data", str(sweep.folder)):
        with pytest.raises(CommandError, match="no finished sweep"):
            load_sweep(root, other)
    assert sweep_names(Path(root, "gone")) == [EXAMPLE]


def test_the_bundled_sweep_is_whole(tmp_path: Path) -> None:
    sweep = load_sweep(tmp_path, EXAMPLE)
    assert {figure.id for figure in curve_figures(sweep)} >= {"ap-bits"}
    image, path = next(iter(open_dataset(data_folder(sweep)).images.items()))
    row = next(row for row in sweep.rows if "bottleneck" in row.id)
    drawn, uploads = PictureStore(1 << 24), PictureStore(1 << 24)
    shown = example(sweep, row, image, path, drawn, uploads)
    assert drawn.get(shown.received) is not None
    assert uploads.get(shown.picture) == path.read_bytes()
    question = {control.name: control.start for control in QUESTION.values()}
    assert headline(decision(sweep, question)).startswith(("Send", "Too close"))


def test_the_bundled_sweep_says_what_it_is_and_not_where_it_was_made(tmp_path: Path) -> None:
    sweep = load_sweep(tmp_path, EXAMPLE)
    note = example_note(sweep, tmp_path)
    assert f"{sweep.rows[0].images} of {len(list((SCENES / 'val').iterdir()))} bundled scenes" in note
    assert "busy machine" in note
    assert str(tmp_path / "first") in note
    assert "/tmp/" not in str(sweep.manifest)


def test_plots_know_their_rows_and_the_themes_colours(sweep: Sweep) -> None:
    figure = curve_figures(sweep)[0]
    points = [row for trace in figure.traces for row in trace.get("customdata", [])]
    assert points
    assert set(points) <= set(sweep.by_id)
    light, dark = (str(plotly(figure, dark=one)) for one in (False, True))
    assert "var(" not in light + dark
    assert light != dark


def test_only_the_newest_of_those_waiting_is_done() -> None:
    async def main() -> list[int]:
        done: list[int] = []
        started, go_on = asyncio.Event(), asyncio.Event()

        async def work(job: int) -> None:
            started.set()
            await go_on.wait()
            done.append(job)

        latest = Latest(work)
        latest.ask(1)
        await started.wait()
        for job in (2, 3, 4):
            latest.ask(job)
        assert latest.waiting
        go_on.set()
        await latest.idle()
        assert not latest.waiting
        latest.ask(5)
        await latest.idle()
        return done

    assert asyncio.run(main()) == [1, 4, 5]


def test_a_slow_old_answer_never_follows_a_quick_new_one() -> None:
    async def main() -> list[float]:
        shown: list[float] = []

        async def work(seconds: float) -> None:
            await asyncio.sleep(seconds)
            shown.append(seconds)

        latest = Latest(work)
        latest.ask(0.05)
        await asyncio.sleep(0)
        latest.ask(0.0)
        await latest.idle()
        return shown

    assert asyncio.run(main()) == [0.05, 0.0]


@pytest.mark.parametrize("target", [1_000, 21_000, 400_000])
@pytest.mark.parametrize("start", [0.2, 4, 90])
def test_equal_bits_are_found_by_few_tries(target: int, start: float) -> None:
    tried: list[float] = []

    async def bits(step: float) -> int:
        tried.append(step)
        return round(200_000 / step**1.3)

    scale = Scale(Control("step", "", "number", 4.0, low=0.1, high=100, logarithmic=True))
    step, count = asyncio.run(equal_bits(bits, scale, start, target))
    assert count == pytest.approx(target, rel=0.02)
    assert count == round(200_000 / step**1.3)
    assert len(tried) <= 8


def test_equal_bits_of_whole_numbers_are_the_nearest_and_those_out_of_reach_the_end() -> None:
    scale = Scale(Control("qp", "", "number", 32, low=0, high=63, integer=True))

    async def bits(qp: float) -> int:
        return round(1e6 * 2 ** (-qp / 6))

    for target in (700, 7_000, 30_000, 990_000):
        qp, count = asyncio.run(equal_bits(bits, scale, 32, target))
        best = min(range(64), key=lambda qp: abs(math.log(round(1e6 * 2 ** (-qp / 6)) / target)))
        assert (qp, count) == (best, round(1e6 * 2 ** (-best / 6)))


def test_an_address_to_open_is_never_that_of_all_addresses() -> None:
    assert reachable("http://0.0.0.0:8001/x") == "http://127.0.0.1:8001/x"
    assert reachable("http://[::]:8001") == "http://127.0.0.1:8001"
    assert reachable("http://127.0.0.1:8011-8014") == "http://127.0.0.1:8011", "of several edges, the first"
    assert reachable("http://0.0.0.0:8011-8014/x", "gpubox") == "http://gpubox:8011/x"
    settings = PageSettings(public_edge_url="http://0.0.0.0:9001", cloud_url="http://cloud:3")
    assert settings.public_urls("camera") == ("http://camera:9001", "http://cloud:3")
