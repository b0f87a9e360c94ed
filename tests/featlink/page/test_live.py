"""The live view in a real browser: a clip and the camera, as features and as pixels, and none left open."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from waiting import wait_until

pytestmark = pytest.mark.extended


def play(tab: Any) -> None:
    tab.get_by_role("button", name="Play").click()
    for side in "ab":
        tab.wait_for_selector(f".overlay.{side} img[data-of]")


def frame(tab: Any, side: str) -> int:
    return int(tab.get_attribute(f".overlay.{side} img", "data-of"))


def streams(site: Any) -> int:
    return len(httpx.get(f"{site.services.channel}/v1/streams").json())


@pytest.mark.parametrize("source", ["clip", "camera"])
def test_a_source_plays_in_both_domains_until_it_is_stopped(tab: Any, site: Any, source: str) -> None:
    tab.goto("/live")
    tab.wait_for_selector("button:has-text('Play'):not([disabled])", timeout=300_000)  # clips may have to be drawn
    if source == "camera":
        tab.get_by_role("combobox", name="Source").click()
        tab.get_by_role("option", name="this device's camera").click()
    play(tab)
    wait_until(lambda: min(frame(tab, "a"), frame(tab, "b")) >= 3, "three frames of each side")
    assert streams(site) == 2
    wait_until(lambda: "kbit/s" in tab.locator(".overlay.b .told").inner_text(), "figures")
    for name in ("feature", "image"):
        points = tab.get_attribute(f".strips figure:first-child polyline.{name}", "points")
        assert len(points.split()) >= 2
    assert tab.evaluate("document.querySelector('.overlay.b img').naturalWidth") == 640
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_role("button", name="Play").wait_for()
    wait_until(lambda: streams(site) == 0, "the streams to end")


def test_who_leaves_leaves_no_stream(tab: Any, site: Any) -> None:
    tab.goto("/live")
    tab.wait_for_selector("button:has-text('Play'):not([disabled])", timeout=300_000)
    play(tab)
    tab.goto("/runs")
    wait_until(lambda: streams(site) == 0, "the streams to end")


def test_a_condition_that_cannot_be_sent_is_said_and_the_other_side_plays(tab: Any, site: Any) -> None:
    tab.goto("/live")
    tab.wait_for_selector("button:has-text('Play'):not([disabled])", timeout=300_000)
    tab.get_by_role("combobox", name="Pixels").fill("image: nonsense")
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="Play").click()
    tab.wait_for_selector(".banner:has-text('nonsense')")
    tab.wait_for_selector(".overlay.a img[data-of]")
    assert tab.locator(".overlay.b img[data-of]").count() == 0
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_role("button", name="Play").wait_for()
    wait_until(lambda: streams(site) == 0, "the stream to end")
