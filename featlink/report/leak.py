"""What attackers recovered of the pictures: a table, a plot over bits, and the pictures beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from featlink.leaks import PICTURES, Leak, Leaks, read_leaks
from featlink.report.curves import Figure, axis, colour
from featlink.report.gallery import Strip, picture
from featlink.report.sweep import Sweep, condition_of
from featlink.report.table import MISSING, Column, Table, number, percent, with_interval

LEAD = (
    "What attackers that know network, chain and codec recovered from what crosses the link. Another one, with more "
    "data, may recover more: little recovered here does not make a condition private."
)


def leak_blocks(sweep: Sweep) -> list[Table | Figure | Strip | str]:
    """The section of a sweep's folder that has ``leak.json``; nothing of another."""
    leaks = read_leaks(sweep.folder)
    if leaks is None:
        return []
    accuracy = {str(condition_of(row)): sweep.ap_text(row) for row in sweep.rows}
    return [leak_table(leaks, accuracy, f"AP {sweep.kind} %"), _figure(leaks), *_strips(leaks, sweep.folder)]


def leak_table(leaks: Leaks, accuracy: dict[str, str] | None = None, heading: str = "") -> Table:
    """One line for each attacker, what recovered most above.

    Args:
        leaks: of attackers.
        accuracy: AP as text by condition, where it is known.
        heading: of that column.
    """
    columns = [Column("condition", number=False), Column("attacker", number=False), Column("levels", number=False)]
    columns += [Column("seed"), Column("kB"), *([Column(heading)] if accuracy is not None else [])]
    columns += [Column("PSNR dB"), Column("SSIM"), Column("MS-SSIM"), Column("marks read %")]
    lines = []
    for one in sorted(leaks.leaks, key=lambda one: -one.psnr.value):
        cells = [one.name, one.kind, ", ".join(one.levels) or MISSING, str(one.seed)]
        cells.append(number(one.kilobytes, 1) if one.condition else MISSING)
        cells += [] if accuracy is None else [accuracy.get(one.condition, MISSING)]
        cells += [with_interval(number(one.psnr.value, 1), one.psnr.interval, unit=1)]
        cells += [number(one.ssim.value, 3), number(one.ms_ssim.value, 3)]
        cells.append(
            MISSING if one.read is None else with_interval(percent(one.read.value, 0), one.read.interval, unit=100)
        )
        lines.append(cells)
    trained = sorted({f"{one.trained[0]} pictures ({one.data})" for one in leaks.leaks})
    height, width = leaks.size
    notes = (
        f"{len(leaks.images)} pictures of {leaks.dataset}, compared at the network input's size, {width}×{height} "
        f"for the first. Attackers learned from {', '.join(trained)}. Means over pictures, with 95 % intervals. A "
        "guess is one colour for all. Of marks, guessing reads about a tenth.",
    )
    return Table("What attackers recovered", columns, lines, notes)


def _figure(leaks: Leaks) -> Figure:
    traces = []
    for kind, symbol in (("ridge", "x"), ("network", "circle"), ("inversion", "diamond")):
        for domain in ("feature", "image"):
            chosen = [one for one in leaks.leaks if one.kind == kind and one.condition.startswith(domain)]
            if not chosen:
                continue
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": f"{domain}: {kind}",
                    "x": [one.kilobytes for one in chosen],
                    "y": [one.psnr.value for one in chosen],
                    "text": [one.name for one in chosen],
                    "marker": {"color": colour(domain), "size": 9, "symbol": symbol},
                }
            )
    layout = {"xaxis": axis("kB a picture", type="log"), "yaxis": axis("PSNR of the recovered picture, dB")}
    return Figure("leak", "What is recovered, over bits", "The lower, the less this attacker recovers.", traces, layout)


def _strips(leaks: Leaks, folder: Path) -> list[Strip]:
    strips = []
    for image_id, file in leaks.originals.items():
        shown: Sequence[Leak] = [one for one in leaks.strongest().values() if image_id in one.pictures]
        named = [(file, "truth", "", "")]
        named += [
            (one.pictures[image_id], one.name, one.condition.partition(":")[0], f"{one.kind}, {one.psnr.value:.1f} dB")
            for one in sorted(shown, key=lambda one: -one.psnr.value)
        ]
        read = [
            (cv2.imread(str(folder / PICTURES / Path(path).name)), title, domain, note)
            for path, title, domain, note in named
        ]
        pictures = [
            picture(pixels[..., ::-1], title, domain, note)
            for pixels, title, domain, note in read
            if pixels is not None
        ]
        strips.append(Strip(f"Image {image_id}: the truth, and what the strongest attacker recovered", 1, pictures))
    return strips
