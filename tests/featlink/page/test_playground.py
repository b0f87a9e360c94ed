"""The playground in a real browser, over the real services with the bundled weights."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prefix_proxy import reverse_proxy

from featlink.starter.bundle import SCENES

pytestmark = pytest.mark.extended

SCENE = "000000000007.jpg"


def address(a: str, b: str = "", picture: str = SCENE, more: str = "") -> str:
    """Of side A, an image's where it does not say otherwise, and of side B if it is given."""
    a = a if a.startswith("feature: ") else f"image: {a}"
    return f"/?picture={picture}&a={quote(a)}{b and '&b=' + quote(b)}{more}"


def wait_for(tab: Any, condition: str, side: str = "a") -> str:
    """Wait until a side's picture is of a condition and has arrived in the browser; returns where it is from."""
    image = f'.overlay.{side} img[data-of*="{condition}"]'
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
    tab.wait_for_selector(f'.overlay.a img[data-of]:not([data-of^="{SCENE}"])')
    key = tab.get_attribute(".overlay.a img", "data-of").split()[0]
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


def test_the_page_opens_on_features_and_pixels_at_about_equal_bits(tab: Any) -> None:
    tab.goto("/")
    wait_for(tab, "bottleneck", "a")
    wait_for(tab, "vvenc", "b")
    tab.locator(".figures thead th.domain", has_text="B pixels").wait_for()  # the table follows the pictures
    assert tab.locator(".figures thead th.domain").all_inner_texts() == ["A features", "B pixels"]
    bits = [number(figure(tab, "Bits", column)) for column in (1, 2)]
    assert max(bits) < 100_000
    assert max(bits) / min(bits) < 3  # of a network input that is smaller than the one it was chosen for
    tab.locator(".verdict", has_text="detections").wait_for()
    assert {"edge", "cloud"} <= set(tab.locator(".waterfall .place").all_inner_texts())


def test_each_side_has_its_own_domain_and_chain(tab: Any) -> None:
    tab.goto(address("feature: quantize(bits=2)"))
    wait_for(tab, "feature: quantize(bits=2)")
    assert tab.locator("[data-side=b]").is_hidden()
    tab.get_by_role("button", name="Compare with a second side").click()
    wait_for(tab, "image: vvenc", "b")
    b = tab.locator("[data-side=b]")
    b.get_by_role("button", name="Features").click()  # vvenc is for both domains: the chain stays
    wait_for(tab, "feature: vvenc", "b")
    assert "b=feature%3A+vvenc" in tab.url
    wait_for(tab, "feature: quantize(bits=2)", "a")
    tab.locator("[data-side=a]").get_by_role("button", name="Pixels").click()
    wait_for(tab, "image: quantize(bits=2)", "a")
    b.get_by_role("button", name="Remove side B").click()
    tab.wait_for_function("!location.search.includes('b=')")


def test_equal_bits_are_found_on_the_other_side(tab: Any) -> None:
    tab.goto(address("jpeg(quality=30)", "image: vvenc(qp=22)"))
    wait_for(tab, "jpeg(quality=30)", "a")
    wait_for(tab, "vvenc(qp=22)", "b")
    assert number(figure(tab, "Bits", 2)) > 1.3 * number(figure(tab, "Bits", 1))
    tab.get_by_role("button", name="Give side B the bits of side A").click()
    tab.locator(".verdict", has_text="equal bits").wait_for()
    assert number(figure(tab, "Bits", 2)) == pytest.approx(number(figure(tab, "Bits", 1)), rel=0.1)
    qp = tab.locator("[data-side=b]").get_by_label("qp", exact=True).first.input_value()
    assert int(qp) > 22
    assert f"vvenc%28qp%3D{qp}%29" in tab.url


def test_the_difference_shows_errors_and_which_side_kept_what(tab: Any) -> None:
    tab.goto(address("feature: quantize(bits=2)", "image: jpeg(quality=5)"))
    before = [wait_for(tab, "quantize", "a"), wait_for(tab, "jpeg", "b")]
    tab.get_by_role("button", name="Difference").click()
    tab.wait_for_selector(".overlay.versus img[data-of]")
    assert "view=difference" in tab.url
    assert wait_for(tab, "quantize", "a") != before[0]
    assert wait_for(tab, "jpeg", "b") != before[1]
    tab.get_by_role("button", name="Detections", exact=True).click()
    tab.wait_for_function("src => document.querySelector('.overlay.a img').src.endsWith(src)", arg=before[0])


def test_pressing_a_picture_shows_the_clean_one(tab: Any) -> None:
    tab.goto(address("jpeg(quality=5)"))
    received = wait_for(tab, "jpeg(quality=5)")
    clean = tab.get_attribute(".overlay.clean img", "src")
    tab.locator(".overlay.a img").hover()
    tab.mouse.down()
    assert tab.get_attribute(".overlay.a img", "src").endswith(clean)
    tab.mouse.up()
    assert tab.get_attribute(".overlay.a img", "src").endswith(received)


def test_a_step_is_added_and_the_link_is_slow(tab: Any) -> None:
    tab.goto(address("identity", more="&link=" + quote('{"rate_mbps": 1, "rtt_ms": 100}')))
    wait_for(tab, "identity")
    transfer = tab.locator(".waterfall tr", has_text="transfer").locator("td.number")
    assert number(transfer.inner_text()) == pytest.approx(50 + number(figure(tab, "Bits")) / 1e3, abs=0.1)
    side = tab.locator("[data-side=a]")
    side.get_by_label("Add a step").click()
    tab.get_by_role("option").filter(has_text="gaussian_noise").click()
    wait_for(tab, "gaussian_noise(sigma=5)")
    assert side.locator(".step").count() == 1


def test_planes_before_and_after(tab: Any) -> None:
    tab.goto(address("feature: quantize(bits=2)", more="&planes=p3"))
    tab.wait_for_selector(".plane img[data-level=p3]")
    tab.get_by_role("button", name="p4").click()
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
    assert tab.get_attribute(".overlay.a img", "src") == before


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
    tab.wait_for_selector(".overlay.a:not(.busy)")
    assert "quality=26" in tab.get_attribute(".overlay.a img", "data-of")
    assert "quality%3D26" in tab.url


def test_the_copied_curl_line_gives_the_same(tab: Any, tmp_path: Path) -> None:
    tab.goto(address("jpeg(quality=30)"))
    wait_for(tab, "jpeg(quality=30)")
    tab.get_by_role("button", name="The same as curl").click()
    tab.wait_for_selector(".lines .mono:has-text('--data-binary')")
    lines = tab.locator(".lines", has_text="curl").locator(".mono").nth(0).inner_text()
    done = subprocess.run(lines, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f'"bits":{number(figure(tab, "Bits")):.0f},' in done.stdout


def test_the_camera_takes_a_picture(tab: Any) -> None:
    tab.goto(address("quantize(bits=4)"))
    wait_for(tab, SCENE)
    tab.get_by_role("button", name="Camera").click()
    tab.wait_for_function("document.getElementById('camera')?.videoWidth > 0")
    tab.get_by_role("button", name="Take the picture").click()
    tab.wait_for_selector(f'.overlay.a img[data-of]:not([data-of^="{SCENE}"])')


@pytest.mark.parametrize("path", ["/", "/explore", "/runs"])
def test_fits_a_phone_in_the_dark(tab: Any, path: str) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.emulate_media(color_scheme="dark")
    tab.goto(path)
    tab.wait_for_selector("body.body--dark .content")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_works_below_a_path_of_a_reverse_proxy(tab: Any, site: Any) -> None:
    with (
        reverse_proxy(site.url, "/lab/demo") as origin,
        tab.context.browser.new_context(base_url=origin) as context,
    ):
        other = context.new_page()
        asked: list[str] = []
        other.on("request", lambda request: asked.append(request.url))
        other.goto(f"/lab/demo{address('jpeg(quality=40)')}")
        wait_for(other, "jpeg(quality=40)")
        other.get_by_role("slider", name="quality").press("PageDown")
        wait_for(other, "jpeg(quality=30)")
        assert other.url.startswith(f"{origin}/lab/demo/?picture=")
        other.set_input_files("input[type=file]", SCENES / "val" / "000000000006.jpg")
        other.wait_for_selector(f'.overlay.a img[data-of]:not([data-of^="{SCENE}"])')
        other.get_by_role("link", name="Explorer").click()
        other.wait_for_url(f"{origin}/lab/demo/explore**")
        assert [url for url in asked if not url.startswith((f"{origin}/lab/demo/", "data:", "blob:"))] == []


def test_a_killed_service_is_told_and_its_return_noticed(tab: Any, site: Any) -> None:
    tab.goto(address("jpeg(quality=40)"))
    before = wait_for(tab, "jpeg(quality=40)")
    site.channel.kill()
    slider = tab.get_by_role("slider", name="quality")
    slider.focus()
    slider.press("PageDown")
    tab.wait_for_selector(".banner.waiting >> text=channel")
    assert tab.get_attribute(".overlay.a img", "src") == before
    site.channel.start()
    assert wait_for(tab, "jpeg(quality=30)") != before
    tab.wait_for_selector(".banner", state="hidden")
