"""AP over packet loss at equal total bits: learned features in stripes against VVC and sliced H.264 pixels.

    python -m benchmarks.loss_curves measure --images 24 --out loss.jsonl      # goes on where it was stopped
    python -m benchmarks.loss_curves figures --out loss.jsonl --kilobytes 5 9

What a condition makes of a picture depends on which units are missing alone. So each picture is coded once by each
source, losses are drawn for every protection by the channel's own `PacketPath`, and the network runs once for each set
of missing units that is drawn. Bits are of all that crosses: bitstreams, frame header, packet headers, parity.

`figures` interpolates each protection's AP between the source's rates, on a scale of log bits, at the same total bits,
and takes the protection that is best at each loss, in both domains alike. Intervals are bootstrapped over pictures.
docs/measurements.md has the result.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

import featlink as fl
from featlink.channel.chain import Chain
from featlink.channel.codecs.base import AccessUnit
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.packets import PacketPath
from featlink.dataset import ground_truth, open_dataset
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.evaluation.coco import items
from featlink.shared.evaluation.coco_metrics import CocoEvaluator, ImageMatches
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.evaluation.confidence_intervals import draw_images, interval
from featlink.shared.result import Detection

LOSSES = (0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
BURSTS = (1, 5)
PARITIES = {"features": (0, 0.25, 0.5, 1, 1.5), "vvc": (0, 0.25, 0.5, 1, 1.5), "h264": (0, 0.5, 1)}
SEEDS = (0, 1)
SOURCES = {
    "features": [f"bottleneck(step={step:g}) | entropy(stripes=4){{}} @ bit_depth=10" for step in (2, 3.4, 5.6, 9)],
    "vvc": [f"image: vvenc(qp={qp}){{}} @ at=original" for qp in (27, 32, 37, 42)],
    "h264": [f"image: h264(qp={qp}, slice_bytes=640){{}} @ at=original" for qp in (30, 36, 42)],
}
"""Rates of each, with a place for the loss."""
MTU = 700
"""Bytes, so that a picture of 5 kB has some packets to protect one another."""


class Coded(msgspec.Struct):
    """A picture by one source.

    Attributes:
        image: its id.
        source: text of the condition.
        bits: of all but packets' headers and parity.
        sizes: bytes of its units behind the parameters.
        found: COCO results by the numbers of missing units.
    """

    image: int
    source: str
    bits: int
    sizes: list[int]
    found: dict[str, list[Detection]]


@dataclass(frozen=True)
class Setting:
    """A loss and a protection."""

    loss: float
    burst: int
    parity: float
    seed: int

    @property
    def step(self) -> PacketLoss:
        """Of the condition."""
        return PacketLoss(rate=self.loss, burst=self.burst, parity=self.parity, mtu=MTU)

    def text(self, source: str) -> str:
        """The condition."""
        return source.format(f" | packet_loss({_params(self.step)})") + f", seed={self.seed}"


def _params(step: PacketLoss) -> str:
    return f"rate={step.rate:g}, burst={step.burst:g}, parity={step.parity:g}, mtu={step.mtu}"


def settings(source: str) -> Iterator[Setting]:
    """All that are drawn for a source."""
    parities = next(PARITIES[name] for name, texts in SOURCES.items() if source in texts)
    for loss, burst in itertools.product(LOSSES, BURSTS):
        if loss or burst == 1:
            yield from (Setting(loss, burst, *rest) for rest in itertools.product(parities, SEEDS))


def sent(coded: Coded, setting: Setting) -> tuple[str, int]:
    """Which units a setting loses, and the bits that cross."""
    place = coded.source.count("|") + 1
    units = AccessUnit(tuple(map(bytes, coded.sizes)))
    _, report = PacketPath(setting.step, setting.seed, place).carry(coded.image, {"x": units})
    return ",".join(str(number) for _, number in report.missing), coded.bits + report.overhead_bits


def measure(out: Path, images: int) -> None:
    """Code, lose and detect, and append what was found to a file."""
    model, data = fl.load("starter", threads=1), open_dataset("starter")
    done = {(one.image, one.source) for one in read(out)}
    for image_id, source in itertools.product(list(data.images)[:images], itertools.chain(*SOURCES.values())):
        if (image_id, source) in done:
            continue
        image = fl.read_image(data.images[image_id])
        text = source.format("")
        signal = model.pyramid(image) if text.startswith("bottleneck") else image
        condition = parse(text)
        levels = (
            signal.levels if condition.domain == "feature" else {"image": image.transpose(2, 0, 1).astype(np.float32)}
        )
        with Chain(chain(condition), condition, weights=model.split.weights) as coder:
            (output,) = coder.push(image_id, levels)
        (picture,) = output.coded.values()
        sizes = [len(unit) for unit in picture.coded.units[picture.coded.parameters :]]
        whole = fl.transmit(signal, Setting(0, 1, 0, 0).text(source), model=model, image_id=image_id, fidelity=False)
        assert whole.packets is not None
        coded = Coded(image_id, source, whole.bits - whole.packets.overhead_bits, sizes, {})
        coded.found[""] = to_coco(model.detect(whole), image_id)
        for setting in settings(source):
            missing, bits = sent(coded, setting)
            if missing.count(",") + 1 == len(sizes) and missing:
                coded.found[missing] = []
            if missing in coded.found:
                continue
            given = fl.transmit(signal, setting.text(source), model=model, image_id=image_id, fidelity=False)
            assert given.packets is not None
            if missing != ",".join(str(number) for _, number in given.packets.missing) or bits - given.bits > 1024:
                raise SystemExit(f"{setting.text(source)}: other units were lost than were drawn")
            coded.found[missing] = to_coco(model.detect(given), image_id)
        with out.open("ab") as file:
            file.write(msgspec.json.encode(coded) + b"\n")
        print(
            f"{image_id} {text}: {coded.bits / 8000:.2f} kB, {len(coded.found)} sets of {len(sizes)} units", flush=True
        )


def read(out: Path) -> list[Coded]:
    """What has been measured."""
    return [msgspec.json.decode(line, type=Coded) for line in out.read_bytes().splitlines()] if out.exists() else []


def figures(out: Path, kilobytes: Sequence[float]) -> None:
    """Print AP at each loss and so many total kB."""
    data = ground_truth(open_dataset("starter"))[0]
    there, judge = items(data), CocoEvaluator()
    by_source: dict[str, dict[int, Coded]] = {}
    for one in read(out):
        by_source.setdefault(one.source, {})[one.image] = one
    ids = sorted(set.intersection(*(set(of_images) for of_images in by_source.values())))
    weights = draw_images(len(ids), 300)
    known: dict[tuple[str, int, str], ImageMatches] = {}

    def matches(coded: Coded, missing: str) -> ImageMatches:
        key = coded.source, coded.image, missing
        if key not in known:
            truth = there[coded.image]
            known[key] = judge.update(truth.image.item, truth, coded.found[missing])
        return known[key]

    def point(source: str, setting: Setting) -> tuple[float, float, np.ndarray]:
        """Bits, AP and its draws."""
        drawn = [(by_source[source][i], *sent(by_source[source][i], setting)) for i in ids]
        samples = [matches(coded, missing) for coded, missing, _ in drawn]
        pool = judge.resamplers(samples)["segm"]
        ap = judge.compute(samples)["segm.AP"] or 0.0
        return float(np.mean([bits for *_, bits in drawn])), ap, np.nan_to_num(pool.draws(weights))

    def at(name: str, target: float, loss: float, burst: int) -> dict[str, object]:
        """The best protection's AP at so many bits, median of the seeds' mean."""
        best: tuple[float, float, np.ndarray] | None = None
        for parity in PARITIES[name] if loss else (0.0,):
            rows = []
            for source in SOURCES[name]:
                made = [point(source, Setting(loss, burst, parity, seed)) for seed in SEEDS]
                rows.append(tuple(np.mean([one[i] for one in made], axis=0) for i in range(3)))
            rows.sort(key=lambda row: float(row[0]))
            bits = np.log([float(row[0]) for row in rows])
            if not bits[0] <= np.log(target) <= bits[-1]:
                continue
            value = float(np.interp(np.log(target), bits, [float(row[1]) for row in rows]))
            draws = np.array(
                [np.interp(np.log(target), bits, column) for column in np.array([row[2] for row in rows]).T]
            )
            if best is None or value > best[1]:
                best = (parity, value, draws)
        if best is None:
            return {"name": name, "ap": None}
        return {"name": name, "parity": best[0], "ap": best[1], "draws": best[2]}

    print(f"{len(ids)} pictures")
    for kb in kilobytes:
        for burst in BURSTS:
            for loss in LOSSES:
                if not loss and burst > 1:
                    continue
                rows = [at(name, 8000 * kb, loss, burst) for name in SOURCES]
                cells = []
                for row in rows:
                    ends = interval(row["draws"]) if row["ap"] is not None else None  # type: ignore[arg-type]
                    cells.append(
                        "—"
                        if ends is None
                        else f"{row['name']} {row['ap']:.3f} ({ends[0]:.3f}–{ends[1]:.3f}) parity {row['parity']:g}"
                    )
                pixels = [row for row in rows[1:] if row["ap"] is not None]
                if rows[0]["ap"] is not None and pixels:
                    other = max(pixels, key=lambda row: row["ap"])  # type: ignore[arg-type,return-value]
                    ends = interval(rows[0]["draws"] - other["draws"])  # type: ignore[operator]
                    cells.append(
                        f"features − {other['name']} {rows[0]['ap'] - other['ap']:+.3f} ({ends[0]:+.3f}…{ends[1]:+.3f})"
                        if ends
                        else ""
                    )  # type: ignore[operator]
                print(f"{kb:g} kB, loss {100 * loss:g} %, burst {burst}: " + "; ".join(cells), flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("measure", "figures"))
    parser.add_argument("--out", type=Path, default=Path("loss.jsonl"))
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--kilobytes", type=float, nargs="+", default=[5, 9])
    args = parser.parse_args()
    if args.what == "measure":
        measure(args.out, args.images)
    else:
        figures(args.out, args.kilobytes)


if __name__ == "__main__":
    main()
