"""The report in a real browser; skipped where there is none."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featlink.report.builder import ReportOptions, make_page
from featlink.report.html import render
from featlink.report.sweep import Sweep

playwright = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the PATH")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(make_page(sweep, ReportOptions(images=1, planes=False))))
    return path


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_draws_all_plots_within_the_window_and_loads_nothing(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
    )
    page.goto(report.as_uri())
    page.wait_for_function("document.querySelectorAll('.canvas .main-svg').length >= 14")  # two layers a plot
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for plot in page.query_selector_all(".canvas"):
        box = plot.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert wrong == []
    page.close()


def test_theme_button_changes_page_and_plots(browser: Any, report: Path) -> None:
    page = browser.new_page(color_scheme="light")
    page.goto(report.as_uri())
    page.wait_for_selector(".canvas .main-svg")

    def colours() -> tuple[str, str]:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return background, page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")

    light = colours()
    page.click("#theme")
    assert colours() == light
    page.click("#theme")
    page.wait_for_timeout(200)
    dark = colours()
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    page.close()


def test_a_tool_bar_never_covers_the_legend(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(report.as_uri())
    page.wait_for_selector(".canvas .main-svg")
    for plot in page.query_selector_all(".canvas"):
        plot.scroll_into_view_if_needed()
        plot.hover()
        bar = plot.query_selector(".modebar").bounding_box()
        for covered in plot.query_selector_all(".legend"):
            legend = covered.bounding_box()
            assert bar["y"] + bar["height"] <= legend["y"] or bar["x"] >= legend["x"] + legend["width"]
    page.close()


def test_plots_that_are_folded_away_are_drawn_when_they_are_shown(browser: Any, sweep: Sweep, tmp_path: Path) -> None:
    rows = [row for row in sweep.rows if row.clean or ".table4." in row.id or ".table5." in row.id]
    path = tmp_path / "short.html"
    path.write_text(render(make_page(dataclasses.replace(sweep, rows=rows), ReportOptions(images=1, planes=False))))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    page.wait_for_selector(".canvas .main-svg")
    assert page.evaluate("document.querySelectorAll('.canvas:has(.main-svg)').length") == 1
    assert page.evaluate("document.documentElement.scrollHeight") < 4 * 900
    page.click("nav a[href='#latency']")
    page.wait_for_selector("#latency .canvas .main-svg")
    box = page.query_selector("#latency .canvas .main-svg").bounding_box()
    assert box["width"] > 900
    assert "#latency" in page.url
    page.close()
