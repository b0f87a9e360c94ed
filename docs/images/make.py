"""Makes the pictures of the README and of the docs: ``python docs/images/make.py``, from the repository root.

``overlay.png`` shows what is detected in one bundled scene, with clean and with coded features. ``curve.png`` draws AP
against kilobytes for both domains, from docs/results.md. ``page*.png`` show the live page: give the address of one that
runs with the bundled weights, ``--page http://127.0.0.1:8000``, and these alone are made; it takes Chromium and the
playwright package.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image, ImageDraw, ImageFont

import featlink as fl

HERE = Path(__file__).parent
SCENE = 9
PANELS = {"identity": "as sent", "vvenc(qp=47)": "coded by VVenC at QP 47"}
COLOURS = {"feature": "#0f766e", "image": "#c2410c"}
MARKERS = {"4": "s", "5": "o"}
NAMES = {"feature": "features", "image": "pixels"}
STEPS = {"4": "quantised to 8, 4, 2 bits", "5": "VVenC at QP 32, 40, 47"}


def overlay(target: Path) -> None:
    """Draw one scene's detections under each of ``PANELS``, side by side."""
    model = fl.load("starter")
    image = fl.read_image(fl.open_dataset("starter").images[SCENE])
    clean = model.pyramid(image)
    panels = []
    for condition, caption in PANELS.items():
        sent = fl.transmit(clean, condition, fidelity=False)
        drawn = fl.draw(image, model.detect(sent.pyramid))
        panel = Image.new("RGB", (drawn.width, drawn.height + 34), "white")
        panel.paste(drawn, (0, 34))
        size = sent.bits / 8e3
        amount = f"{size / 1e3:.1f} MB" if size > 1e3 else f"{size:.0f} kB"
        ImageDraw.Draw(panel).text((4, 5), f"Features {caption}: {amount}", "black", ImageFont.load_default(20))
        panels.append(panel)
    gap = 8
    pair = Image.new("RGB", (sum(p.width for p in panels) + gap * (len(panels) - 1), panels[0].height), "white")
    for i, panel in enumerate(panels):
        pair.paste(panel, (i * (panel.width + gap), 0))
    pair.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


def curve(target: Path) -> None:
    """Draw the rows of Tables 4 and 5 of docs/results.md."""
    text = (HERE.parent / "results.md").read_text()
    table, points = "", dict[tuple[str, str], list[tuple[float, float]]]()
    for line in text.partition("## At equal cost")[0].splitlines():
        if found := re.match(r"\*\*Table (\d)\.", line):
            table = found[1]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if table in MARKERS and len(cells) > 15 and cells[1] in COLOURS:
            point = (float(cells[-2].replace(",", "")), float(cells[2]))
            points.setdefault((table, cells[1]), []).append(point)
    figure, axes = plt.subplots(figsize=(7.6, 3.6), dpi=130)
    for (table, domain), values in points.items():
        x, y = zip(*sorted(values), strict=True)
        label = f"{NAMES[domain]}, {STEPS[table]}"
        axes.plot(x, y, color=COLOURS[domain], marker=MARKERS[table], label=label, linewidth=2, markersize=6)
    [clean] = re.findall(r"\| clean \| feature \| ([\d.]+)", text)
    axes.axhline(float(clean), color="#64748b", linestyle="--", linewidth=1)
    axes.text(1.35, float(clean) + 0.8, f"clean: {clean}", color="#64748b", fontsize=9)
    axes.set(xscale="log", xlabel="kB per image over the link", ylabel="mask AP, %", xlim=(1.2, 16000), ylim=(10, 69))
    axes.set_xticks([2, 10, 100, 1000, 10000], ["2", "10", "100", "1,000", "10,000"])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower center", ncols=2)
    figure.tight_layout()
    figure.savefig(target)


PAGES = {
    "page": ("/", 1280, 900, "light", ".overlay.b img[data-of]"),
    "page-dark": ("/?view=difference", 1280, 1150, "dark", ".overlay.versus img[data-of]"),
    "page-explore": ("/explore?sweep=bundled+example", 1280, 900, "light", ".behind img"),
    "page-phone": ("/", 390, 844, "dark", ".overlay.b img[data-of]"),
}
"""Pictures of the live page: path, width, height, colours, and what must be there."""


def pages(address: str) -> None:
    """Photograph the live page.

    Args:
        address: of a page that runs.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (path, width, height, colours, there) in PAGES.items():
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colours)
            tab.goto(address + path)
            tab.wait_for_selector(there, timeout=120_000)
            tab.wait_for_timeout(3000)  # for what is drawn after the first picture
            if name == "page-phone":
                tab.locator(".verdict-line").evaluate("one => one.scrollIntoView()")
                tab.evaluate("window.scrollBy(0, -60)")
                tab.wait_for_timeout(300)
            picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            picture.quantize(256, dither=Image.Dither.NONE).save(HERE / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", help="address of a live page")
    if address := parser.parse_args().page:
        pages(address.rstrip("/"))
    else:
        overlay(HERE / "overlay.png")
        curve(HERE / "curve.png")
