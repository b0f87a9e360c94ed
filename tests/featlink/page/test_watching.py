"""Runs, explorer and health in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featlink.client import Client
from featlink.dataset import open_dataset

pytestmark = pytest.mark.extended

FAR_POINT = """shown => {
  const points = [...document.querySelectorAll('.plot[data-figure=ap-bits] .points path.point')].map(path => {
    const box = path.getBoundingClientRect();
    return {row: path.__data__.data, x: box.x + box.width / 2, y: box.y + box.height / 2};
  });
  const here = points.filter(one => one.row === shown);
  const far = one => Math.min(...here.map(other => Math.hypot(one.x - other.x, one.y - other.y)));
  const found = points.filter(one => one.row !== shown).sort((a, b) => far(b) - far(a))[0];
  return [found.x, found.y];
}"""
"""Where the point is that is the farthest from the one shown: its neighbours may cover it, but are no nearer."""


def test_a_runs_progress_moves_while_a_client_feeds_it(tab: Any, site: Any) -> None:
    data = open_dataset(Path("starter"))
    with Client(site.services.edge, site.services.cloud) as client:
        client.put_dataset("starter", data.annotations)
        runs = [client.create_run("starter", f"image: jpeg(quality={q})", "image", name=f"q{q}") for q in (20, 60)]
        tab.goto("/runs")
        bar = tab.locator(f'[data-run="{runs[0]}"]')
        bar.wait_for()
        assert bar.get_attribute("aria-valuenow") == "0"
        for count, (image_id, picture) in enumerate(list(data.images.items())[:2], 1):
            for run, quality in zip(runs, (20, 60), strict=True):
                sent = {"condition": f"image: jpeg(quality={quality})", "image_id": image_id, "run": run}
                client.infer(picture.read_bytes(), **sent)
            tab.wait_for_selector(f'[data-run="{runs[0]}"][aria-valuenow="{count}"]', state="attached")
        row = tab.locator("tr", has=bar)
        row.locator("td").nth(6).filter(has_text=".").wait_for()  # its AP so far
        detections = tab.request.get(f"/runs/{runs[0]}/detections.json").json()
        assert {one["image_id"] for one in detections} <= set(list(data.images)[:2])
        table = tab.request.get(f"/runs.csv?ids={','.join(runs)}").text().splitlines()
        assert len(table) == 3
        assert table[0].startswith("id,")


def test_a_point_of_a_curve_shows_its_pictures(tab: Any) -> None:
    tab.goto("/explore?sweep=first")
    tab.wait_for_selector(".plot[data-figure=ap-bits] .main-svg")
    shown = tab.get_attribute("[data-row]", "data-row")
    tab.locator(".plot[data-figure=ap-bits] .points path.point").first.wait_for()
    tab.mouse.move(*tab.evaluate(FAR_POINT, shown))
    tab.wait_for_selector(".plot[data-figure=ap-bits] .hovertext")  # Plotly clicks what it knows to be under the mouse
    tab.mouse.down()
    tab.mouse.up()
    tab.wait_for_function("old => document.querySelector('[data-row]')?.dataset.row !== old", arg=shown)
    tab.wait_for_function("[...document.querySelectorAll('.behind img')].every(i => i.complete && i.naturalWidth)")
    assert tab.locator(".behind img").count() == 2
    assert "row=" in tab.url


def test_the_link_decides_what_to_send(tab: Any) -> None:
    tab.goto("/explore?sweep=decide")
    answer = tab.locator(".answer")
    answer.locator("b", has_text="Send pixels").wait_for()
    tab.locator(".aside .waterfall").nth(1).wait_for()
    tab.get_by_label("link (Mbit/s)").first.fill("1")
    answer.locator("b", has_text="Send features").wait_for()
    rate = tab.get_by_role("slider", name="link (Mbit/s)")
    rate.focus()
    rate.press("End")
    answer.locator("b", has_text="Send pixels").wait_for()
    tab.goto("/explore?sweep=first")  # has no samples to draw from
    answer.get_by_text("run the same").wait_for()


def test_the_bundled_example_is_told_from_sweeps_of_ones_own(tab: Any) -> None:
    tab.goto("/explore?sweep=bundled+example")
    tab.get_by_role("note").filter(has_text="54 of 64 bundled scenes").wait_for()
    tab.goto("/explore?sweep=first")
    tab.wait_for_selector(".plot[data-figure=ap-bits] .main-svg")
    assert tab.get_by_role("note").inner_text() == ""
