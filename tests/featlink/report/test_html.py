"""The HTML file: loads nothing, and its tables hold the rows' numbers."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from plotly.offline import get_plotlyjs

from featlink.paper import paper_rows
from featlink.report.builder import ReportOptions, make_page, to_markdown
from featlink.report.html import render
from featlink.report.sweep import Sweep
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
    assert len(links) == 8
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
    assert len(read.pictures) == len(set(read.alternatives)) * 2 == pictures
    assert all(source.startswith("data:image/webp;base64,") for source in read.pictures)


def test_says_whose_numbers_and_why_planes_are_missing(html: str) -> None:
    assert "These are starter-model numbers" in html
    assert "Left out: no weights at /gone/starter.safetensors" in html
    assert "The paper&#39;s σ is not the same noise in both domains" in html


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
        assert "Table 5. VVenC coding: ours beside the paper's" in read.tables


def test_box_only_model(sweep: Sweep) -> None:
    rows = [without_masks(row) for row in sweep.rows]
    read = Reader(render(make_page(dataclasses.replace(sweep, rows=rows), ReportOptions(planes=False))))
    heading = read.tables["Table 3. Resizing: ours beside the paper's"][1]
    assert heading[2:7] == ["bbox", "paper", "bbox", "paper", "Δ"]


def without_masks(row: Row) -> Row:
    seeds = [msgspec.structs.replace(seed, segm=None) for seed in row.seeds]
    return msgspec.structs.replace(row, segm=None, seeds=seeds)
