"""Whether `featlink decide --fps` is right: a clip sent through the services at its own pace, over a link that waits.

    featlink scenes --clips 1 --frames 40 --motion pan --out clip
    python -m benchmarks.stream_replay --dataset clip --out replay

One deployment. The clip goes through each condition frame by frame, without a link: that is the sweep that is decided
on, after a first pass that does not count. Right after that it is sent as a camera would, a picture each 1/fps seconds
whether the last one is answered or not, over links that are busy for the shares `--loads` of the time: with one above
1, the link is too slow. Latencies are the client's.
docs/measurements.md has the result.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from featlink.channel.link import Link, LinkQueue
from featlink.client import Client
from featlink.dataset import ground_truth, open_dataset
from featlink.deciding.pipeline import Frames, simulate
from featlink.deciding.query import make_query
from featlink.deciding.streams import StreamOption, decide_stream
from featlink.launcher import Ports, Stack, free_ports, service_settings
from featlink.report.sweep import open_sweep
from featlink.shared.evaluation.coco import clips
from featlink.shared.models.config import ModelConfig
from featlink.shared.result import InferenceResult
from featlink.shared.timing import in_order
from featlink.sweeps import folder as folders
from featlink.sweeps.engine import Frame, ItemResult, WorkItem
from featlink.sweeps.folder import Records, locked
from featlink.sweeps.http import HttpEngine
from featlink.sweeps.plan import PlannedRun, SweepOptions, make_plan
from featlink.sweeps.run import finish

RTT_MS = 40.0
PERIOD = 5
"""Frames from one key frame to the next."""
CONDITIONS = (
    f"image: hevc(qp=32, gop=low_delay, period={PERIOD}) @ at=original",
    f"feature: pca(components=64) | hevc(qp=27, gop=low_delay, period={PERIOD})",
)
MOST_UNDER_WAY = 64
STABLE = 0.05
"""Seconds by which latency may grow each second, and the backlog is still no growing one: timings are not exact."""


class Replay(msgspec.Struct):
    """What was seen: the link and the row, and of each frame when it was due and answered, its bits, and its times.

    Attributes:
        times_ms: of edge, cloud and hops, of each frame.
    """

    mbps: float
    row: str
    due_s: list[float]
    answered_s: list[float]
    bits: list[int]
    times_ms: list[tuple[float, float, float]]

    @property
    def latencies_ms(self) -> np.ndarray:
        """From when a frame was due to its answer."""
        return 1e3 * (np.array(self.answered_s) - np.array(self.due_s))

    def simulated_ms(self) -> np.ndarray:
        """What the simulation makes of these very bits and times: its error without that of measuring times."""
        edge_ms, cloud_ms, hops_ms = np.array(self.times_ms).T
        places = np.arange(len(self.bits))
        frames = Frames(np.array(self.due_s), edge_ms, np.array(self.bits), cloud_ms, hops_ms, places)
        return simulate(frames, LinkQueue(Link(rate_mbps=self.mbps, rtt_ms=RTT_MS))).latency_ms

    @property
    def growth(self) -> float:
        """Seconds by which latency grew each second, from period to period: a line of least squares."""
        count = len(self.due_s) // PERIOD * PERIOD
        due_s, latencies_s = (
            each[:count].reshape(-1, PERIOD).mean(axis=1) for each in (np.array(self.due_s), self.latencies_ms / 1e3)
        )
        return float(np.polyfit(due_s, latencies_s, 1)[0])


def measure(args: argparse.Namespace) -> list[Replay]:
    """Make the sweep and replay it."""
    config = ModelConfig(threads=args.threads, min_size=args.min_size, max_size=args.max_size)
    options = SweepOptions(args.dataset, config, tuple(args.conditions), args.out, fidelity=False, engine="http")
    data = open_dataset(options.dataset)
    truth, plan = ground_truth(data)[0], make_plan(options.conditions, options.seeds)
    clip, *_ = clips(truth)
    pictures = {image.id: data.images[image.id].read_bytes() for image in clip.images[: args.frames]}
    frames = tuple(Frame(image, lambda picture=picture: picture) for image, picture in pictures.items())
    replays: list[Replay] = []
    with tempfile.TemporaryDirectory() as folder, locked(args.out), (args.out / "services.log").open("w") as log:
        settings = service_settings(config, Path(folder) / "runs.sqlite")
        settings |= {"cache_mb": "0", "max_requests": str(MOST_UNDER_WAY)}
        ports: Ports = free_ports()
        with (
            Stack(ports, settings, lambda name, line: print(name, line, file=log)) as stack,
            Client(ports.edge_url, ports.edge_url, patient=False) as client,
        ):
            stack.wait_ready()
            engine = HttpEngine(client, [run.condition for run in plan], fidelity=False)
            manifest = folders.begin(args.out, folders.describe(data, truth, options, engine.identity, plan))
            with Records(args.out, data.name, truth, engine.identity, plan) as records:
                for index, run in enumerate(plan):
                    item = WorkItem(frames, (index,), str(clip.id))
                    for counted in (False, True) if run.condition.steps else (True,):
                        done = [one for one in engine.run([item]) if isinstance(one, ItemResult)]
                        if len(done) < len(frames):
                            raise SystemExit(f"{run.id}: not every frame was answered")
                        for one in done if counted else ():
                            records.add(one)
                    if not run.condition.steps:
                        continue
                    mbps = float(np.mean([one.result.bits for one in done])) * args.fps / 1e6
                    for load in args.loads:
                        replays.append(replayed(client, run, pictures, args.fps, mbps / load))
                        print(f"{run.id}: load {load:g}, {np.median(replays[-1].latencies_ms):,.0f} ms", flush=True)
                manifest["finished"] = folders.now()
                finish(args.out, records, truth, manifest, Console(quiet=True))
    (args.out / "replays.json").write_bytes(msgspec.json.encode(replays))
    return replays


def replayed(client: Client, run: PlannedRun, pictures: dict[int, bytes], fps: float, mbps: float) -> Replay:
    """Send pictures at their own pace, as one stream."""
    link = json.dumps({"rate_mbps": mbps, "rtt_ms": RTT_MS, "wait": True})
    stream, condition = uuid.uuid4().hex, str(run.condition)

    def answered(number: int, image: int) -> tuple[float, InferenceResult]:
        result = client.infer(
            pictures[image],
            domain=run.condition.domain,
            condition=condition,
            image_id=image,
            fidelity=False,
            link=link,
            stream=stream,
            frame=number,
        )
        return time.monotonic(), result

    with ThreadPoolExecutor(MOST_UNDER_WAY) as threads:
        begun = time.monotonic() + 0.1
        due = [begun + number / fps for number in range(len(pictures))]
        waiting = []
        for number, image in enumerate(pictures):
            time.sleep(max(0.0, due[number] - time.monotonic()))
            waiting.append(threads.submit(answered, number, image))
        answers = [one.result() for one in waiting]
    client.end_stream(stream)
    return Replay(
        mbps,
        run.id,
        [moment - begun for moment in due],
        [moment - begun for moment, _ in answers],
        [result.bits or 0 for _, result in answers],
        [_times_ms(result.timings) for _, result in answers],
    )


def _times_ms(timings: dict[str, float]) -> tuple[float, float, float]:
    """Of edge, cloud and hops."""
    stages = in_order(timings)
    edge_ms, cloud_ms = (sum(timings[one.name] for one in stages if one.place == place) for place in ("edge", "cloud"))
    return edge_ms, cloud_ms, timings.get("hops", 0.0)


def compare(args: argparse.Namespace, replays: Sequence[Replay]) -> None:
    """Print what was predicted beside what was seen."""
    sweep, agreed = open_sweep(args.out), 0
    errors: list[float] = []
    own_errors: list[float] = []
    print(f"{args.fps:g} frames a second, {RTT_MS:g} ms round trip\n")
    print(
        "| sent | Mbit/s | load | median: predicted, replayed, ms | 95 % | backlog, s each s |\n"
        "|---|--:|--:|--:|--:|--:|"
    )
    for replay in replays:
        decision = decide_stream(sweep, make_query(rate=replay.mbps, rtt=RTT_MS, fps=args.fps, keep=0))
        option: StreamOption = next(one for one in decision.options if one.candidate.row.id == replay.row)
        seen = np.percentile(replay.latencies_ms, [50, 95])
        errors += (np.array(option.latency_ms) / seen - 1).tolist()
        own_errors += (np.percentile(replay.simulated_ms(), [50, 95]) / seen - 1).tolist()
        same = option.stable == (replay.growth < STABLE)
        agreed += same
        median, most = (
            f"{ours:,.0f}, {theirs:,.0f} ({100 * (ours / theirs - 1):+.1f} %)"
            for ours, theirs in zip(option.latency_ms, seen, strict=True)
        )
        backlog = f"{option.loads.growth:.2f}, {replay.growth:.2f}{'' if same else ' ANOTHER VERDICT'}"
        name, load = f"{option.candidate.row.domain}: {option.candidate.name}", option.loads.link
        print(f"| {name} | {replay.mbps:.3g} | {load:.2f} | {median} | {most} | {backlog} |")
    print()
    for what, those in (("", errors), (" simulated with the replay's own times", own_errors)):
        off = 100 * np.abs(those)
        print(f"{len(those)} percentiles{what}, off by {off.mean():.1f} % on average, at most {off.max():.1f} %")
    print(f"{agreed} of {len(replays)} verdicts on the backlog are the same")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="its first clip is sent")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--conditions", nargs="+", default=CONDITIONS)
    parser.add_argument("--frames", type=int, help="only so many")
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--loads", type=float, nargs="+", default=(0.4, 0.8, 1.5))
    parser.add_argument("--min-size", type=int, help="of the network input")
    parser.add_argument("--max-size", type=int, help="the same")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    compare(args, measure(args))


if __name__ == "__main__":
    main()
