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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

import featlink as fl
from featlink.api.model import Model
from featlink.channel.chain import Chain
from featlink.channel.codecs.base import AccessUnit
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.packets import PacketPath
from featlink.dataset import ground_truth, open_dataset
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.evaluation.coco import items
from featlink.shared.evaluation.coco_metrics import CocoEvaluator, Floats, ImageMatches, Pool
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.evaluation.confidence_intervals import draw_images, interval
from featlink.shared.features import Array, FeatureMaps, Image
from featlink.shared.result import Detection

LOSSES = (0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
BURSTS = (1, 5)
PARITIES = {"features": (0, 0.25, 0.5, 1, 1.5), "vvc": (0, 0.25, 0.5, 1, 1.5), "h264": (0, 0.5, 1)}
SEEDS = {"features": range(4), "vvc": range(6), "h264": range(2)}
"""Slices are many, so that nearly each draw of them loses others."""
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
    name = next(name for name, texts in SOURCES.items() if source in texts)
    for loss, burst in itertools.product(LOSSES, BURSTS):
        if loss or burst == 1:
            yield from (Setting(loss, burst, *rest) for rest in itertools.product(PARITIES[name], SEEDS[name]))


def sent(coded: Coded, setting: Setting) -> tuple[str, int]:
    """Which units a setting loses, and the bits that cross."""
    place = coded.source.count("|") + 1
    units = AccessUnit(tuple(map(bytes, coded.sizes)))
    _, report = PacketPath(setting.step, setting.seed, place).carry(coded.image, {"x": units})
    return ",".join(str(number) for _, number in report.missing), coded.bits + report.overhead_bits


def _coded(model: Model, image_id: int, source: str, signal: FeatureMaps | Image, levels: Mapping[str, Array]) -> Coded:
    condition = parse(source.format(""))
    with Chain(chain(condition), condition, weights=model.split.weights) as coder:
        (output,) = coder.push(image_id, levels)
    (picture,) = output.coded.values()
    sizes = [len(unit) for unit in picture.coded.units[picture.coded.parameters :]]
    whole = fl.transmit(signal, Setting(0, 1, 0, 0).text(source), model=model, image_id=image_id, fidelity=False)
    bits = whole.bits - (0 if whole.packets is None else whole.packets.overhead_bits)
    return Coded(image_id, source, bits, sizes, {"": to_coco(model.detect(whole), image_id)})


def measure(out: Path, images: int, sources: Sequence[str]) -> None:
    """Code, lose and detect, and append what was found to a file."""
    model, data = fl.load("starter", threads=1), open_dataset("starter")
    done = {(one.image, one.source): one for one in read(out)}
    texts = [source for name in sources for source in SOURCES[name]]
    for image_id, source in itertools.product(list(data.images)[:images], texts):
        known = done.get((image_id, source))
        if known is not None and all(sent(known, setting)[0] in known.found for setting in settings(source)):
            continue
        image = fl.read_image(data.images[image_id])
        text = source.format("")
        signal = model.pyramid(image) if text.startswith("bottleneck") else image
        condition = parse(text)
        levels = (
            signal.levels if condition.domain == "feature" else {"image": image.transpose(2, 0, 1).astype(np.float32)}
        )
        coded = known or _coded(model, image_id, source, signal, levels)
        for setting in settings(source):
            missing, bits = sent(coded, setting)
            if missing.count(",") + 1 == len(coded.sizes) and missing:
                coded.found[missing] = []
            if missing in coded.found:
                continue
            given = fl.transmit(signal, setting.text(source), model=model, image_id=image_id, fidelity=False)
            lost = () if given.packets is None else given.packets.missing
            if missing != ",".join(str(number) for _, number in lost) or bits - given.bits > 1024:
                raise SystemExit(f"{setting.text(source)}: other units were lost than were drawn")
            coded.found[missing] = to_coco(model.detect(given), image_id)
        with out.open("ab") as file:
            file.write(msgspec.json.encode(coded) + b"\n")
        print(
            f"{image_id} {text}: {coded.bits / 8000:.2f} kB, {len(coded.found)} sets of {len(coded.sizes)} units",
            flush=True,
        )


def read(out: Path) -> list[Coded]:
    """What has been measured; of what was gone on with, what came last."""
    return [msgspec.json.decode(line, type=Coded) for line in out.read_bytes().splitlines()] if out.exists() else []


@dataclass(frozen=True, eq=False)
class Best:
    """A domain's best protection at a loss."""

    name: str
    parity: float
    ap: float
    draws: Floats

    def __str__(self) -> str:
        low, high = interval(self.draws) or (np.nan, np.nan)
        return f"{self.name} {self.ap:.3f} ({low:.3f}–{high:.3f}) parity {self.parity:g}"


def figures(out: Path, kilobytes: Sequence[float], names: Sequence[str]) -> None:
    """Print AP at each loss and so many total kB, of the pictures that all these sources were measured on."""
    data = ground_truth(open_dataset("starter"))[0]
    there, judge = items(data), CocoEvaluator()
    by_source: dict[str, dict[int, Coded]] = {}
    for one in read(out):
        by_source.setdefault(one.source, {})[one.image] = one
    ids = sorted(set.intersection(*(set(by_source.get(text, ())) for name in names for text in SOURCES[name])))
    weights, ones = draw_images(len(ids), 300), np.ones(len(ids), np.int64)
    known: dict[tuple[str, int, str], ImageMatches] = {}

    def matches(coded: Coded, missing: str) -> ImageMatches:
        key = coded.source, coded.image, missing
        if key not in known:
            truth = there[coded.image]
            known[key] = judge.update(truth.image.item, truth, coded.found[missing])
        return known[key]

    def pool(source: str, setting: Setting) -> tuple[float, Pool]:
        """Bits, and what AP is taken of."""
        drawn = [(by_source[source][i], *sent(by_source[source][i], setting)) for i in ids]
        samples = [matches(coded, missing) for coded, missing, _ in drawn]
        return float(np.mean([bits for *_, bits in drawn])), judge.resamplers(samples)["segm"]

    def at(name: str, target: float, loss: float, burst: int) -> Best | None:
        """The best protection's AP at so many bits, on average over the seeds; None beyond the rates."""
        found: list[tuple[float, float, list[tuple[float, Pool]]]] = []
        for parity in PARITIES[name] if loss else (0.0,):
            pools = [
                [pool(source, Setting(loss, burst, parity, seed)) for seed in SEEDS[name]] for source in SOURCES[name]
            ]
            pools.sort(key=lambda of_seeds: of_seeds[0][0])
            bits = np.log([np.mean([bits for bits, _ in of_seeds]) for of_seeds in pools])
            if bits[0] <= np.log(target) <= bits[-1]:
                shares = [float(np.interp(np.log(target), bits, unit)) for unit in np.eye(len(pools))]
                parts = [
                    (share / len(of_seeds), one)
                    for share, of_seeds in zip(shares, pools, strict=True)
                    for _, one in of_seeds
                    if share
                ]
                found.append((sum(share * (one.average_precision(ones) or 0) for share, one in parts), parity, parts))
        if not found:
            return None
        ap, parity, parts = max(found, key=lambda one: one[0])
        return Best(
            name, parity, ap, np.sum([share * np.nan_to_num(one.draws(weights)) for share, one in parts], axis=0)
        )

    print(f"{len(ids)} pictures")
    for kb, burst, loss in itertools.product(kilobytes, BURSTS, LOSSES):
        if not loss and burst > 1:
            continue
        rows = [best for name in names if (best := at(name, 8000 * kb, loss, burst)) is not None]
        told = [str(row) for row in rows]
        pixels = [row for row in rows if row.name != "features"]
        if len(pixels) < len(rows) and pixels:
            other = max(pixels, key=lambda row: row.ap)
            ends = interval(rows[0].draws - other.draws) or (np.nan, np.nan)
            told.append(f"features − {other.name} {rows[0].ap - other.ap:+.3f} ({ends[0]:+.3f} to {ends[1]:+.3f})")
        print(f"{kb:g} kB, loss {100 * loss:g} %, burst {burst}: " + "; ".join(told), flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("measure", "figures"))
    parser.add_argument("--out", type=Path, default=Path("loss.jsonl"))
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--sources", nargs="+", choices=[*SOURCES], default=[*SOURCES])
    parser.add_argument("--kilobytes", type=float, nargs="+", default=[5, 9])
    args = parser.parse_args()
    if args.what == "measure":
        measure(args.out, args.images, args.sources)
    else:
        figures(args.out, args.kilobytes, args.sources)


if __name__ == "__main__":
    main()
