"""AP over packet loss at equal total bits: learned features in stripes against pixels, of stills and of streams.

    python -m benchmarks.loss_curves measure --images 24 --out loss.jsonl      # goes on where it was stopped
    python -m benchmarks.loss_curves figures --out loss.jsonl --kilobytes 5 9
    python -m benchmarks.loss_curves measure-streams --dataset clips48 --images 3 --frames 16 --out streams.jsonl
    python -m benchmarks.loss_curves figures-streams --dataset clips48 --out streams.jsonl --kilobytes 1

Stills: features against VVC and sliced H.264. What a condition makes of a picture depends on which units are missing
alone. So each picture is coded once by each source, losses are drawn for every protection by the channel's own
`PacketPath`, and the network runs once for each set of missing units that is drawn.

Streams: predicted features, whole or in stripes, against x265 and sliced H.264 without delay. The receiver shows the
last picture for what is missing and asks for a key frame, which comes four frames later. What is coded depends on what
was lost before, so each clip is sent anew for every protection, and the network runs once for each picture that differs
from all others.

Bits are of all that crosses: bitstreams, frame header, packet headers, parity, key frames that were asked for.
`figures` interpolates each protection's AP between the source's rates, on a scale of log bits, at the same total bits,
and takes the protection that is best at each loss, in both domains alike. Intervals are bootstrapped over pictures, or
over clips.
docs/measurements.md has the result.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

import featlink as fl
from featlink.api.model import Model
from featlink.api.transmission import key_of
from featlink.channel.chain import Chain
from featlink.channel.codecs.base import AccessUnit
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.packets import PacketPath
from featlink.dataset import ground_truth, open_dataset
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.evaluation.coco import clips, items
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
STREAMS = {
    "features": [f"bottleneck(step={s:g}, gop=low_delay) | entropy{{}} @ bit_depth=10" for s in (2, 4.5)],
    "stripes": [f"bottleneck(step={s:g}, gop=low_delay) | entropy(stripes=4){{}} @ bit_depth=10" for s in (2.8, 7)],
    "hevc": [f"image: hevc(qp={qp}, gop=low_delay){{}} @ at=input" for qp in (26, 32, 38)],
    "h264": [f"image: h264(qp={qp}, gop=low_delay, slice_bytes=640){{}} @ at=input" for qp in (29, 35, 41)],
}
REPAIR = ", conceal=last, key_request=4"
"""What receivers of streams do about a loss."""
STREAM_LOSSES = (0, 0.01, 0.03, 0.1)
STREAM_PARITIES = (0, 0.5)
MTU = 700
"""Bytes, so that a picture of 5 kB has some packets to protect one another."""


Row = TypeVar("Row", bound=msgspec.Struct)


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

    def text(self, source: str, repair: str = "") -> str:
        """The condition, with what else the step is told."""
        return source.format(f" | packet_loss({_params(self.step)}{repair})") + f", seed={self.seed}"


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
    done = {(one.image, one.source): one for one in read(out, Coded)}
    texts = [source for name in sources for source in SOURCES[name]]
    for image_id, source in itertools.product(list(data.images)[:images], texts):
        known = done.get((image_id, source))
        if known is not None and all(sent(known, setting)[0] in known.found for setting in settings(source)):
            continue
        image = fl.read_image(data.images[image_id])
        text = source.format("")
        signal = model.pyramid(image) if text.startswith("bottleneck") else image
        levels = (
            signal.levels if isinstance(signal, FeatureMaps) else {"image": image.transpose(2, 0, 1).astype(np.float32)}
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


def read(out: Path, kind: type[Row]) -> list[Row]:
    """What has been measured; of what was gone on with, what came last."""
    return [msgspec.json.decode(line, type=kind) for line in out.read_bytes().splitlines()] if out.exists() else []


class Streamed(msgspec.Struct):
    """A clip by one condition.

    Attributes:
        clip: its id.
        source: text of the condition without losses.
        setting: text with them.
        bits: of each frame.
        packets: that were sent, in all.
        lost: how many of them.
        found: COCO results of the frames that were looked at.
    """

    clip: int
    source: str
    setting: str
    bits: list[int]
    packets: int
    lost: int
    found: dict[int, list[Detection]]


def stream_settings(bursts: Sequence[int]) -> Iterator[Setting]:
    """All that streams are sent through, without loss first."""
    yield Setting(0, 1, 0, 0)
    for burst, loss, parity in itertools.product(bursts, STREAM_LOSSES[1:], STREAM_PARITIES):
        yield Setting(loss, burst, parity, 0)


def measure_streams(
    out: Path,
    model: Model,
    dataset: str,
    names: Sequence[str],
    bursts: Sequence[int],
    limit: int,
    frames: int,
    every: int,
) -> None:
    """Send the first frames of clips, look at every so-manieth, and append what was found to a file."""
    data = open_dataset(dataset)
    done = {(one.clip, one.setting) for one in read(out, Streamed)}
    for clip in clips(ground_truth(data)[0])[:limit]:
        images = {i: fl.read_image(data.images[i]) for i in clip.ids[:frames]}
        pyramids = {i: model.pyramid(image) for i, image in images.items()}
        known: dict[str, list[Detection]] = {}
        for name in names:
            for source, setting in itertools.product(STREAMS[name], stream_settings(bursts)):
                text = setting.text(source, REPAIR)
                if (clip.id, text) in done:
                    continue
                sent: dict[int, fl.Delivery] = {}
                with fl.open_stream(text, model=model, fidelity=False) as stream:
                    signals: Mapping[int, FeatureMaps | Image] = images if source.startswith("image") else pyramids
                    for i, signal in signals.items():
                        (sent[i],) = stream.push(signal, i)
                found = {i: _seen(model, sent[i], i, known) for i in list(sent)[every - 1 :: every]}
                reports = [one.packets for one in sent.values() if one.packets is not None]
                counts = sum(one.packets for one in reports), sum(one.lost for one in reports)
                row = Streamed(clip.id, source, text, [one.bits for one in sent.values()], *counts, found)
                with out.open("ab") as file:
                    file.write(msgspec.json.encode(row) + b"\n")
                print(f"{clip.id} {text}: {sum(row.bits) / 8000 / len(sent):.2f} kB a frame", flush=True)


def _seen(model: Model, sent: fl.Delivery, image_id: int, known: dict[str, list[Detection]]) -> list[Detection]:
    """What is found in what came; in the same as before, the same."""
    if sent.frame.meta.lost:
        return []
    came = f"{image_id} {key_of(tensor.data for tensor in sent.frame.tensors)}"
    if came not in known:
        known[came] = to_coco(model.detect(sent), image_id)
    return known[came]


@dataclass(frozen=True, eq=False)
class Best:
    """The best protection of a source at a loss."""

    name: str
    parity: float
    ap: float
    draws: Floats

    def __str__(self) -> str:
        low, high = interval(self.draws) or (np.nan, np.nan)
        return f"{self.name} {self.ap:.3f} ({low:.3f}–{high:.3f}) parity {self.parity:g}"


@dataclass(frozen=True, eq=False)
class Curves:
    """Pools of AP by condition, and how they are compared.

    Attributes:
        sources: conditions by name, at several rates each.
        parities: of each.
        seeds: of each.
        pool: bits of an item by a condition, and what AP is taken of.
        weights: bootstrap draws, (B, items).
    """

    sources: Mapping[str, Sequence[str]]
    parities: Mapping[str, Sequence[float]]
    seeds: Mapping[str, Sequence[int]]
    pool: Callable[[str, Setting], tuple[float, Pool]]
    weights: npt.NDArray[np.int64]

    def best(self, name: str, target: float, loss: float, burst: int) -> Best | None:
        """The best protection's AP at so many bits, on average over the seeds; None beyond the rates."""
        ones = np.ones(self.weights.shape[1], np.int64)
        found: list[tuple[float, float, list[tuple[float, Pool]]]] = []
        for parity in self.parities[name] if loss else (0.0,):
            pools = [
                [self.pool(source, Setting(loss, burst, parity, seed)) for seed in self.seeds[name]]
                for source in self.sources[name]
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
        draws = np.sum([share * np.nan_to_num(one.draws(self.weights)) for share, one in parts], axis=0)
        return Best(name, parity, ap, draws)

    def show(self, kilobytes: Sequence[float], losses: Sequence[float], bursts: Sequence[int]) -> None:
        """Print AP at each loss and so many total kB, and how far the better features are from the better pixels."""
        for kb, burst, loss in itertools.product(kilobytes, bursts, losses):
            if not loss and burst > 1:
                continue
            rows = [best for name in self.sources if (best := self.best(name, 8000 * kb, loss, burst)) is not None]
            told = [str(row) for row in rows]
            pixels = [row for row in rows if self.sources[row.name][0].startswith("image")]
            features = [row for row in rows if row not in pixels]
            if features and pixels:
                one, other = (max(found, key=lambda row: row.ap) for found in (features, pixels))
                low, high = interval(one.draws - other.draws) or (np.nan, np.nan)
                told.append(f"{one.name} − {other.name} {one.ap - other.ap:+.3f} ({low:+.3f} to {high:+.3f})")
            print(f"{kb:g} kB, loss {100 * loss:g} %, burst {burst}: " + "; ".join(told), flush=True)


def figures(out: Path, kilobytes: Sequence[float], names: Sequence[str]) -> None:
    """AP of stills, of the pictures that all these sources were measured on."""
    there, judge = items(ground_truth(open_dataset("starter"))[0]), CocoEvaluator()
    by_source: dict[str, dict[int, Coded]] = {}
    for one in read(out, Coded):
        by_source.setdefault(one.source, {})[one.image] = one
    ids = sorted(set.intersection(*(set(by_source.get(text, ())) for name in names for text in SOURCES[name])))
    known: dict[tuple[str, int, str], ImageMatches] = {}

    def matches(coded: Coded, missing: str) -> ImageMatches:
        key = coded.source, coded.image, missing
        if key not in known:
            truth = there[coded.image]
            known[key] = judge.update(truth.image.item, truth, coded.found[missing])
        return known[key]

    @functools.cache
    def pool(source: str, setting: Setting) -> tuple[float, Pool]:
        drawn = [(by_source[source][i], *sent(by_source[source][i], setting)) for i in ids]
        samples = [matches(coded, missing) for coded, missing, _ in drawn]
        return float(np.mean([bits for *_, bits in drawn])), judge.resamplers(samples)["segm"]

    print(f"{len(ids)} pictures")
    sources = {name: SOURCES[name] for name in names}
    Curves(sources, PARITIES, SEEDS, pool, draw_images(len(ids), 300)).show(kilobytes, LOSSES, BURSTS)


def figures_streams(
    out: Path, dataset: str, kilobytes: Sequence[float], names: Sequence[str], bursts: Sequence[int]
) -> None:
    """AP of streams, of the clips that were sent through all conditions of these sources."""
    there, judge = items(ground_truth(open_dataset(dataset))[0]), CocoEvaluator()
    by_setting: dict[str, dict[int, Streamed]] = {}
    for one in read(out, Streamed):
        by_setting.setdefault(one.setting, {})[one.clip] = one
    texts = [
        setting.text(source, REPAIR)
        for name in names
        for source, setting in itertools.product(STREAMS[name], stream_settings(bursts))
    ]
    whole = sorted(set.intersection(*(set(by_setting.get(text, ())) for text in texts)))
    looked_at = [(clip, image) for clip in whole for image in by_setting[texts[0]][clip].found]

    @functools.cache
    def pool(source: str, setting: Setting) -> tuple[float, Pool]:
        by_clip = by_setting[setting.text(source, REPAIR)]
        samples = [judge.update(there[i].image.item, there[i], by_clip[clip].found[i]) for clip, i in looked_at]
        return float(np.mean([by_clip[clip].bits for clip in whole])), judge.resamplers(samples)["segm"]

    print(f"{len(whole)} clips, {len(looked_at)} frames")
    for name, burst, loss in itertools.product(names, bursts, STREAM_LOSSES[1:]):
        of_loss = [one for one in stream_settings(bursts) if (one.burst, one.loss) == (burst, loss)]
        rows = [
            by_setting[one.text(source, REPAIR)][clip]
            for one, source, clip in itertools.product(of_loss, STREAMS[name], whole)
        ]
        share = sum(row.lost for row in rows) / sum(row.packets for row in rows)
        print(f"{name}: {100 * share:.1f} % of packets lost, of {100 * loss:g} %, burst {burst}")
    weights = draw_images(len(looked_at), 300, clips=np.array([clip for clip, _ in looked_at], np.int64))
    sources = {name: STREAMS[name] for name in names}
    Curves(sources, dict.fromkeys(names, STREAM_PARITIES), dict.fromkeys(names, (0,)), pool, weights).show(
        kilobytes, STREAM_LOSSES, bursts
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("measure", "figures", "measure-streams", "figures-streams"))
    parser.add_argument("--out", type=Path, default=Path("loss.jsonl"))
    parser.add_argument("--images", type=int, default=24, help="or clips")
    parser.add_argument("--sources", nargs="+", choices=[*dict.fromkeys((*SOURCES, *STREAMS))])
    parser.add_argument("--kilobytes", type=float, nargs="+", default=[5, 9], help="of a picture, or of a frame")
    parser.add_argument("--dataset", default="clips", help="of clips")
    parser.add_argument("--frames", type=int, default=16, help="of a clip")
    parser.add_argument("--bursts", type=int, nargs="+", choices=BURSTS, default=[*BURSTS], help="of streams")
    parser.add_argument("--input", type=int, default=480, help="shorter side of the network's input of streams, pixels")
    parser.add_argument("--every", type=int, default=4, help="look at one frame of so many")
    args = parser.parse_args()
    names = args.sources or [*(STREAMS if args.what.endswith("streams") else SOURCES)]
    if args.what == "measure":
        measure(args.out, args.images, names)
    elif args.what == "figures":
        figures(args.out, args.kilobytes, names)
    elif args.what == "measure-streams":
        model = fl.load("starter", min_size=args.input, max_size=2 * args.input, threads=1)
        measure_streams(args.out, model, args.dataset, names, args.bursts, args.images, args.frames, args.every)
    else:
        figures_streams(args.out, args.dataset, args.kilobytes, names, args.bursts)


if __name__ == "__main__":
    main()
