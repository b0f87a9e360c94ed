"""The page against curl: from a slider's release to the new picture, and the same request; and the first paint.

Give the address of a page and of the edge it asks, both running: `featlink up` prints them. Needs Chromium, the
playwright package and curl. Page and curl take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from playwright.sync_api import Page, sync_playwright

from featlink.starter.bundle import SCENES

SCENE = "000000000009.jpg"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
CASES = {"feature": ("quantize", "bits"), "image": ("jpeg", "quality")}
WATCH = """name => { window.since = null; window.shown = null;
const slider = document.querySelector(`input[type=range][aria-label="${name}"]`);
slider.addEventListener('change', () => { window.since = performance.now(); window.shown = null; });
for (const image of document.querySelectorAll('.overlay.a img'))
  image.addEventListener('load', () => { if (window.since) window.shown ??= performance.now() - window.since; }); }"""

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--page", default="http://127.0.0.1:8000")
parser.add_argument("--edge", default="http://127.0.0.1:8001")
parser.add_argument("--times", type=int, default=20)
args = parser.parse_args()


def curl(domain: str, condition: str, folder: Path) -> float:
    """Milliseconds of the request that the page sends."""
    query = {"condition": condition, "link": "{}"} | ({"received": "image"} if domain == "image" else {})
    url = f"{args.edge}/v1/infer?{urlencode(query)}"
    command = ["curl", "-sf", "-o", str(folder / "answer.json"), "-w", "%{time_total}"]
    done = subprocess.run(
        [*command, "--data-binary", f"@{SCENES / 'val' / SCENE}", url], capture_output=True, text=True, check=True
    )
    return 1e3 * float(done.stdout)


def condition_of(tab: Page) -> str:
    """Side A's condition in the address bar."""
    return parse_qs(urlsplit(tab.url).query)["a"][0]


def release(tab: Page, name: str, key: str) -> float:
    """Milliseconds from the slider's release to the new picture's arrival."""
    before = condition_of(tab)
    tab.locator(f'input[type=range][aria-label="{name}"]').press(key)
    tab.wait_for_function("window.shown !== null && window.since !== null", timeout=60_000)
    tab.wait_for_function("!document.querySelector('.overlay.busy')")
    while condition_of(tab) == before:
        tab.wait_for_timeout(10)
    return float(tab.evaluate("window.shown"))


def quarters(values: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.0f} ms ({low:.0f}–{high:.0f})"


with sync_playwright() as started, tempfile.TemporaryDirectory() as folder:
    browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
    paints = []
    for _ in range(args.times):
        context = browser.new_context()  # with an empty cache
        tab = context.new_page()
        tab.goto(args.page)
        tab.wait_for_selector(".overlay img[data-of]")
        paints.append(float(tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")))
        context.close()
    print(f"first contentful paint: {quarters(paints)}")
    for domain, (step, name) in CASES.items():
        tab = browser.new_page()
        start = {"bits": 4, "quality": 40}[name]
        tab.goto(f"{args.page}/?picture={SCENE}&a={quote(f'{domain}: {step}({name}={start})')}")
        tab.wait_for_selector(".overlay.a img[data-of]")
        tab.evaluate(WATCH, name)
        page_ms, curl_ms = [], []
        for i in range(args.times):
            page_ms.append(release(tab, name, "ArrowRight" if i % 2 else "ArrowLeft"))
            time.sleep(0.2)  # both begin with idle services
            curl_ms.append(curl(domain, condition_of(tab), Path(folder)))
            time.sleep(0.2)
        ratio = statistics.median(page_ms) / statistics.median(curl_ms)
        title = re.sub("^feature$", "features", domain)
        print(f"{title}, {step}: page {quarters(page_ms)}, curl {quarters(curl_ms)}, ratio {ratio:.2f}")
    browser.close()
