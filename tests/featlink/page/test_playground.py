"""The playground in a real browser, over the real services with the bundled weights."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from featlink.starter.bundle import SCENES

pytestmark = pytest.mark.slow

SCENE = "000000000007.jpg"
RECEIVED = ".overlay.{domain} img[data-of]"


def address(condition: str, send: str = "image", picture: str = SCENE, more: str = "") -> str:
    return f"/?picture={picture}&send={send}&condition={quote(condition)}{more}"


def wait_for(tab: Any, condition: str, domain: str = "image") -> str:
    """Wait until the picture is of a condition and has arrived in the browser; returns where it is from."""
    image = f'.overlay.{domain} img[data-of*="{condition}"]'
    tab.wait_for_selector(image)
    if "(" in condition:
        tab.wait_for_selector(f'.figures-slot[data-of*="{condition}"]', state="attached")
    tab.wait_for_function(
        "one => { const i = document.querySelector(one); return i.complete && i.naturalWidth }", arg=image
    )
    return str(tab.get_attribute(image, "src"))


def figure(tab: Any, name: str, column: int = 1) -> str:
    row = tab.locator(".figures tr", has=tab.get_by_role("rowheader", name=name, exact=True))
    return str(row.locator("td").nth(column - 1).inner_text())


def number(text: str) -> float:
    return float(re.sub(r"[^0-9.]", "", text))


def test_an_uploaded_picture_gets_its_overlay(tab: Any) -> None:
    tab.goto(address("quantize(bits=4)"))
    before = wait_for(tab, SCENE)
    tab.set_input_files("input[type=file]", SCENES / "val" / "000000000006.jpg")
    tab.wait_for_selector(f'.overlay.image img[data-of]:not([data-of^="{SCENE}"])')
    key = tab.get_attribute(".overlay.image img", "data-of").split()[0]
    assert re.fullmatch("[0-9a-f]{32}", key)
    assert f"picture={key}" in tab.url
    assert wait_for(tab, key) != before
    assert tab.evaluate("document.querySelector('.overlay.clean img').naturalWidth") == 640


def test_a_slider_changes_bits_and_picture(tab: Any) -> None:
    tab.goto(address("jpeg(quality=80)"))
    before, bits = wait_for(tab, "jpeg(quality=80)"), number(figure(tab, "Bits"))
    slider = tab.get_by_role("slider", name="quality")
    slider.focus()
    slider.press("PageDown")
    after = wait_for(tab, "jpeg(quality=70)")
    assert after != before
    assert number(figure(tab, "Bits")) < bits
    assert "jpeg%28quality%3D70%29" in tab.url


def test_a_number_changes_what_the_encoder_does(tab: Any) -> None:
    tab.goto(address("vvenc(qp=22)"))
    wait_for(tab, "vvenc(qp=22)")
    bits, psnr = number(figure(tab, "Bits")), number(figure(tab, "PSNR of what is sent"))
    tab.get_by_label("qp", exact=True).first.fill("50")
    wait_for(tab, "vvenc(qp=50)")
    assert number(figure(tab, "Bits")) < bits / 4
    assert number(figure(tab, "PSNR of what is sent")) < psnr


def test_features_against_pixels(tab: Any) -> None:
    tab.goto(address("quantize(bits=2)", send="feature"))
    wait_for(tab, "quantize(bits=2)", "feature")
    assert tab.locator(".overlay.image").is_hidden()
    tab.get_by_role("button", name="Both").click()
    wait_for(tab, "quantize(bits=2)", "image")
    assert tab.locator(".figures thead th.domain").all_inner_texts() == ["Features", "Pixels"]
    assert number(figure(tab, "Bits", 1)) > number(figure(tab, "Bits", 2))
    places = set(tab.locator(".waterfall .place").all_inner_texts())
    assert {"edge", "cloud"} <= places


def test_a_step_is_added_and_the_link_is_slow(tab: Any) -> None:
    tab.goto(address("identity", more="&link=" + quote('{"rate_mbps": 1, "rtt_ms": 100}')))
    wait_for(tab, "identity")
    transfer = tab.locator(".waterfall tr", has_text="transfer").locator("td.number")
    assert number(transfer.inner_text()) == pytest.approx(50 + number(figure(tab, "Bits")) / 1e3, abs=0.1)
    tab.get_by_label("Add a step").click()
    tab.get_by_role("option").filter(has_text="gaussian_noise").click()
    wait_for(tab, "gaussian_noise(sigma=5)")
    assert tab.locator(".step").count() == 1


def test_planes_before_and_after(tab: Any) -> None:
    tab.goto(address("quantize(bits=2)", send="feature", more="&planes=p4"))
    tab.wait_for_selector(".plane img[data-level=p4]")
    tab.wait_for_function("[...document.querySelectorAll('.plane img')].every(i => i.complete && i.naturalWidth)")
    sizes = tab.evaluate("[...document.querySelectorAll('.plane img')].map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes[0] == sizes[1]
    assert sizes[0][0] % 16 == sizes[0][1] % 16 == 0
    sources = tab.evaluate("[...document.querySelectorAll('.plane img')].map(i => i.src)")
    assert sources[0] != sources[1]


def test_a_broken_picture_is_refused_in_words(tab: Any, tmp_path: Path) -> None:
    tab.goto(address("quantize(bits=4)"))
    before = wait_for(tab, SCENE)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((SCENES / "val" / SCENE).read_bytes()[:2000])
    with tab.expect_response("**/pictures") as response:
        tab.set_input_files("input[type=file]", broken)
    assert response.value.status == 415
    tab.wait_for_selector(".banner.error >> text=Unreadable image")
    assert tab.get_attribute(".overlay.image img", "src") == before


def test_a_wrong_condition_is_refused_in_words(tab: Any) -> None:
    tab.goto(address("jpeg(quality=80) | jpeg(quality=80)"))
    tab.wait_for_selector(".banner.error >> text=a chain can code once")


def test_a_copied_address_restores_the_view(tab: Any) -> None:
    tab.goto(address("gaussian_blur(sigma=2)"))
    wait_for(tab, "gaussian_blur(sigma=2)")
    tab.get_by_label("sigma", exact=True).first.fill("3.5")
    source = wait_for(tab, "gaussian_blur(sigma=3.5)")
    copy = tab.context.new_page()
    copy.goto(tab.url)
    assert wait_for(copy, "gaussian_blur(sigma=3.5)") == source
    assert copy.get_by_label("sigma", exact=True).first.input_value() == "3.5"
    assert figure(copy, "Bits") == figure(tab, "Bits")


def test_the_last_of_many_quick_changes_stays(tab: Any) -> None:
    tab.goto(address("jpeg(quality=20)"))
    wait_for(tab, "jpeg(quality=20)")
    slider = tab.get_by_role("slider", name="quality")
    slider.focus()
    for _ in range(6):
        slider.press("ArrowRight")
    wait_for(tab, "jpeg(quality=26)")
    tab.wait_for_selector(".overlay.image:not(.busy)")
    assert "quality=26" in tab.get_attribute(".overlay.image img", "data-of")
    assert "quality%3D26" in tab.url


def test_the_copied_curl_line_gives_the_same(tab: Any, tmp_path: Path) -> None:
    tab.goto(address("jpeg(quality=30)"))
    wait_for(tab, "jpeg(quality=30)")
    tab.get_by_role("button", name="The same as curl").click()
    lines = tab.locator(".lines", has_text="curl").locator(".mono").nth(0).inner_text()
    done = subprocess.run(lines, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f'"bits":{number(figure(tab, "Bits")):.0f},' in done.stdout


def test_the_camera_takes_a_picture(tab: Any) -> None:
    tab.goto(address("quantize(bits=4)"))
    wait_for(tab, SCENE)
    tab.get_by_role("button", name="Camera").click()
    tab.wait_for_function("document.getElementById('camera')?.videoWidth > 0")
    tab.get_by_role("button", name="Take the picture").click()
    tab.wait_for_selector(f'.overlay.image img[data-of]:not([data-of^="{SCENE}"])')


@pytest.mark.parametrize("path", ["/", "/explore", "/runs", "/health"])
def test_fits_a_phone_in_the_dark(tab: Any, path: str) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(color_scheme="dark")
    tab.goto(path)
    tab.wait_for_selector("body.body--dark .content")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_killed_service_is_told_and_its_return_noticed(tab: Any, site: Any) -> None:
    tab.goto(address("jpeg(quality=40)"))
    before = wait_for(tab, "jpeg(quality=40)")
    site.channel.kill()
    slider = tab.get_by_role("slider", name="quality")
    slider.focus()
    slider.press("PageDown")
    tab.wait_for_selector(".banner.waiting >> text=channel")
    assert tab.get_attribute(".overlay.image img", "src") == before
    site.channel.start()
    assert wait_for(tab, "jpeg(quality=30)") != before
    tab.wait_for_selector(".banner", state="hidden")
