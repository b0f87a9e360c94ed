"""The HTML file: loads nothing, and its tables hold the rows' numbers."""

from __future__ import annotations

import dataclasses
import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from drawn_sweep import Made, make_drawn
from plotly.offline import get_plotlyjs

from featlink.paper import paper_rows
from featlink.report.builder import ReportOptions, headline, make_page
from featlink.report.html import render, to_markdown
from featlink.report.sweep import Sweep, about
from featlink.results import Row


class Reader(HTMLParser):
    """Collects tables as lists of rows of cells, attributes that could load something, plots, and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.loads: list[str] = []
        self.pictures: list[str] = []
        self.alternatives: list[str] = []
        self.ids: list[str] = []
        self.plots: list[str] = []
        self.caption = ""
        self._within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name) or ""
            if value and not value.startswith(("data:", "#")):
                self.loads.append(value)
        if tag == "img":
            self.pictures.append(attributes["src"] or "")
            self.alternatives.append(attributes["alt"] or "")
        if tag == "figcaption":
            self.caption = ""
        elif tag == "table":
            self.tables[self.caption.strip()] = []
        elif tag == "tr":
            self.tables[self.caption.strip()].append([])
        elif tag in ("td", "th"):
            self.tables[self.caption.strip()][-1].append("")
        elif tag == "script" and "data-plot" in attributes:
            self.plots.append("")
        if tag not in ("meta", "img", "wbr", "br", "link"):
            self._within.append("plot" if tag == "script" and "data-plot" in attributes else tag)

    def handle_endtag(self, tag: str) -> None:
        self._within.pop()

    def handle_data(self, data: str) -> None:
        if "plot" in self._within:
            self.plots[-1] += data
        elif "td" in self._within or "th" in self._within:
            self.tables[self.caption.strip()][-1][-1] += data
        elif "figcaption" in self._within:
            self.caption += data


@pytest.fixture(scope="module")
def html(sweep: Sweep) -> str:
    return render(make_page(sweep, ReportOptions(images=2)))


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    return Reader(html)


def test_loads_nothing(html: str, read: Reader) -> None:
    assert read.loads == []
    assert "default-src 'none'" in html
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"url\(|@import", style)


def test_links_lead_somewhere(html: str, read: Reader) -> None:
    links = re.findall(r'href="#([^"]+)"', html)
    assert len(links) == 8  # a link to each section
    assert set(links) <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))


def test_paper_tables_hold_the_rows(read: Reader, sweep: Sweep) -> None:
    seen = 0
    for table, lines in ((caption, lines) for caption, lines in read.tables.items() if caption.startswith("Table ")):
        if "at equal noise" in table:
            continue
        names = [name for name in paper_rows() if name.split(".")[1] == f"table{table[6]}"]
        for name, cells in zip(names, lines[2:], strict=True):
            row, paper = sweep.by_id[name], paper_rows()[name]
            assert row.segm is not None
            clean = sweep.by_id[f"clean.{row.domain}"]
            assert clean.segm is not None
            kept = row.segm["AP"] / clean.segm["AP"]  # type: ignore[operator]
            ours = [row.segm["AP"], row.bbox["AP"], None, kept, row.bbox["AP"] / clean.bbox["AP"]]  # type: ignore[operator]
            assert cells[1] == row.domain
            for cell, value in zip(cells[2:], ours, strict=False):
                assert value is None or cell == f"{100 * value:.1f}"
            assert cells[4] == f"{paper.map:.1f}"
            assert cells[7] == f"{100 * paper.map / 40.3:.1f}"
            assert float(cells[8].replace("−", "-")) == pytest.approx(100 * (kept - paper.map / 40.3), abs=0.051)
            assert cells[9:11] == [f"{row.fidelity['psnr_f']:.2f}", f"{paper.fidelity['psnr_f']:.2f}"]
            assert cells[11:13] == [f"{row.fidelity['ssim_f']:.3f}", f"{paper.fidelity['ssim_f']:.3f}"]
            assert cells[14] == (f"{paper.fidelity['psnr_i']:.2f}" if row.domain == "image" else "–")
            assert float(cells[17].replace(",", "")) == pytest.approx(row.bits_per_image / 8000, rel=0.01)
            assert cells[18] == f"{row.bpp:,.2f}"
            seen += 1
    assert seen == 33


def test_every_condition_is_in_a_table(read: Reader, sweep: Sweep) -> None:
    [equal] = [lines for caption, lines in read.tables.items() if "at equal noise" in caption]
    assert [line[0] for line in equal[2::2]] == ["sigma=16", "sigma=34.6", "sigma=43.7"]
    others = read.tables["Conditions beyond the paper"]
    assert {line[2] for line in others[2:]} == {"mix", "rank probe", "loss", "single"}
    assert 33 + len(equal[2:]) + len(others[2:]) + 2 == len(sweep.rows)


def test_begins_with_an_answer_and_pictures(sweep: Sweep, html: str) -> None:
    head = html[: html.index("<nav")]
    answer = headline(sweep)
    assert answer.startswith("To keep 95 % of the clean AP, the cheapest ")
    assert "features" in answer
    assert "pixels" in answer
    assert escape(answer) in head
    assert 'data-plot="plot-ap-bits"' in head
    assert head.count("<img ") == 3
    assert head.index(escape(answer)) < head.index("plot-ap-bits") < head.index("<img ") < head.index("<dl>")
    assert "<table" not in head
    assert html.count('id="plot-ap-bits"') == 1


def test_the_cheapest_that_keeps_enough_is_in_the_headline(tmp_path: Path) -> None:
    rows = {
        "image: jpeg(quality=80)": Made("image: jpeg(quality=80)", 0.59, 100),
        "image: jpeg(quality=10)": Made("image: jpeg(quality=10)", 0.3, 20),
        "small": Made("feature: pca(components=64) | vvenc(qp=30)", 0.585, 40),
        "lost": Made("feature: quantize(bits=4) | packet_loss(rate=0.1)", 0.6, 1),
    }
    assert headline(make_drawn(tmp_path / "both", rows)) == (
        "To keep 95 % of the clean AP, the cheapest features tried need 40.0 kB an image (pca(components=64) | "
        "vvenc(qp=30)), the cheapest pixels 100.0 kB (jpeg(quality=80)): 2.5 times as many bits."
    )
    one = make_drawn(tmp_path / "one", {name: made for name, made in rows.items() if made.text.startswith("image")}, 9)
    one = dataclasses.replace(one, rows=[row for row in one.rows if row.domain == "image"])
    assert headline(one).endswith("pixels tried need 100.0 kB an image (jpeg(quality=80)). That is on 9 images.")
    assert headline(dataclasses.replace(one, rows=[])) == ""
    blind = [msgspec.structs.replace(row, segm={"AP": 0.0}, bbox={"AP": 0.0}) for row in one.rows]
    assert headline(dataclasses.replace(one, rows=blind)).startswith("No AP of a clean run is above 0")


def test_a_short_sweep_has_one_table_and_the_rest_folded(sweep: Sweep) -> None:
    rows = [row for row in sweep.rows if row.clean or ".table4." in row.id or ".table5." in row.id]
    html = render(make_page(dataclasses.replace(sweep, rows=rows), ReportOptions(planes=False)))
    shown = re.sub(
        r"<details.*?</details>", "", re.sub(r'<details class="more">.*?</details>', "", html, flags=re.S), flags=re.S
    )
    assert len(Reader(shown).tables) == 1
    assert "Beyond the paper" not in html


def test_infinite_psnr(sweep: Sweep) -> None:
    row = sweep.by_id["paper.table4.image.bits8"]
    unchanged = msgspec.structs.replace(row, fidelity={**row.fidelity, "psnr_f": None, "psnr_i": None})
    rows = [unchanged if one.id == row.id else one for one in sweep.rows]
    read = Reader(render(make_page(dataclasses.replace(sweep, rows=rows), ReportOptions(planes=False))))
    cells = read.tables["Table 4. Quantisation: ours beside the paper's"][3]
    assert (cells[9], cells[10], cells[13], cells[14]) == ("∞", "59.16", "∞", "57.58")


def test_plots_are_data(read: Reader) -> None:
    plots = [json.loads(plot) for plot in read.plots]
    assert len(plots) == 7  # paper, three curves, two waterfalls, latency
    for plot in plots:
        assert plot["data"]
        for trace in plot["data"]:
            assert len(trace["x"]) == len(trace["y"]) > 0


def test_gallery_without_the_weights(read: Reader) -> None:
    pictures = 2 * 2 * (1 + 5)  # images, domains, clean and five distortions
    scene = 3  # clean, and received as features and as an image
    assert len(read.pictures) == pictures + scene
    assert len(set(read.alternatives)) <= pictures // 2 + scene
    assert all(source.startswith("data:image/webp;base64,") for source in read.pictures)


def test_says_whose_numbers_and_why_planes_are_missing(html: str) -> None:
    assert "These are starter-model numbers" in html
    assert "Left out: no weights at /gone/starter.safetensors" in html
    assert "The paper&#39;s σ is not the same noise in both domains" in html


def test_another_model_has_no_starter_weights(sweep: Sweep) -> None:
    model = {"name": "mine", "weights": "starter", "identity": "000000000000002a"}
    what = about(dataclasses.replace(sweep, manifest={**sweep.manifest, "model": model}))
    assert what.statement.startswith("These are numbers of the model mine: ")
    assert dict(what.facts)["Weights"] == "000000000000002a"


def test_small(html: str) -> None:
    assert len(html) - len(get_plotlyjs()) < 8_000_000


def test_markdown_has_the_same_tables(read: Reader, sweep: Sweep) -> None:
    text = to_markdown(make_page(sweep, ReportOptions(images=0, planes=False)))
    manifest = read.tables.pop("What was run, with what")
    assert manifest[1][1] not in text
    for caption, lines in read.tables.items():
        assert f"**{caption}**" in text
        for line in lines[-3:]:
            assert " | ".join(cell.replace("|", r"\|") for cell in line) in text


def test_text_of_others_cannot_become_markup(sweep: Sweep) -> None:
    manifest = {**sweep.manifest, "command": ["<script>alert(1)</script>"]}
    html = render(make_page(dataclasses.replace(sweep, manifest=manifest), ReportOptions(planes=False)))
    assert "<script>alert" not in html


@pytest.mark.parametrize("missing", ["runs.sqlite", "data set"])
def test_without_pictures_the_rest_is_there(missing: str, sweep: Sweep, tmp_path: Path) -> None:
    manifest = sweep.manifest
    if missing == "data set":
        manifest = {**manifest, "dataset": {"name": "tiny", "folder": "/gone"}}
    here = dataclasses.replace(sweep, folder=tmp_path, manifest=manifest)
    html = render(make_page(here, ReportOptions()))
    assert "Left out: there is no" in html
    assert Reader(html).pictures == []
    assert list(tmp_path.iterdir()) == []


def test_partial_sweeps(sweep: Sweep) -> None:
    """Any subset of rows makes a report."""
    for rows in ([], sweep.rows[:1], sweep.rows[1:3], [row for row in sweep.rows if row.domain == "feature"]):
        part = dataclasses.replace(sweep, rows=list(rows))
        read = Reader(render(make_page(part, ReportOptions(planes=False))))
        there = {row.id for row in rows if row.id.startswith("paper.")}
        assert ("Table 1. Gaussian blur: ours beside the paper's" in read.tables) == any(
            "table1" in one for one in there
        )
        assert any(caption.startswith(f"{33 - len(there)} rows of") for caption in read.tables) == bool(there)
        assert not any("not in this sweep" in cell for lines in read.tables.values() for line in lines for cell in line)


def test_box_only_model(sweep: Sweep) -> None:
    rows = [without_masks(row) for row in sweep.rows]
    read = Reader(render(make_page(dataclasses.replace(sweep, rows=rows), ReportOptions(planes=False))))
    heading = read.tables["Table 3. Resizing: ours beside the paper's"][1]
    assert heading[2:7] == ["bbox", "paper", "bbox", "paper", "Δ"]


def without_masks(row: Row) -> Row:
    seeds = [msgspec.structs.replace(seed, segm=None) for seed in row.seeds]
    return msgspec.structs.replace(row, segm=None, seeds=seeds)
