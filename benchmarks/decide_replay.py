"""Whether `featlink decide` is right: every choice sent again through the services over a link that really waits.

    python -m benchmarks.decide_replay --out replay --images 8

One deployment, without caches. Each image goes through each condition once uncounted, once without a link, which makes
the sweep that is decided on, and right after that over each link, timed at the client. So both see the same load of the
machine. What would take over `--patience` seconds on the link is not sent over it.
docs/measurements.md has the result.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.progress import track

from featlink.client import Client
from featlink.dataset import ground_truth, open_dataset
from featlink.deciding.decision import Decision, decide
from featlink.deciding.query import make_query
from featlink.deciding.ranking import Option
from featlink.launcher import Ports, Stack, service_settings
from featlink.report.sweep import Sweep, open_sweep
from featlink.shared.models.config import ModelConfig
from featlink.sweeps import folder as folders
from featlink.sweeps.engine import ItemResult, WorkItem
from featlink.sweeps.folder import Records, locked
from featlink.sweeps.http import HttpEngine
from featlink.sweeps.plan import SweepOptions, make_plan
from featlink.sweeps.run import finish

RATES = (0.5, 5.0, 50.0, 1000.0)
RTT_MS = 20.0
CONDITIONS = (
    *(f"image: jpeg(quality={quality}) @ at=original" for quality in (20, 80)),
    "image: vvenc(qp=32) @ at=original",
    *(f"feature: pca(components=256) | vvenc(qp={qp}, bit_depth=10)" for qp in (16, 24)),
)

Walls = dict[float, dict[str, dict[int, float]]]
"""Rate, row, image: milliseconds at the client."""


def measure(args: argparse.Namespace) -> Walls:
    """Make the sweep and time the replay."""
    config = ModelConfig(threads=args.threads, min_size=args.min_size, max_size=args.max_size)
    options = SweepOptions(
        Path("starter"), config, CONDITIONS, args.out, fidelity=False, engine="http", limit=args.images
    )
    data = open_dataset(options.dataset)
    truth, plan = ground_truth(data)[0], make_plan(options.conditions, options.seeds)
    images = dict(list(data.images.items())[: args.images])
    ports = Ports(*args.ports)
    walls: Walls = {rate: defaultdict(dict) for rate in RATES}
    with tempfile.TemporaryDirectory() as folder, locked(args.out), (args.out / "services.log").open("w") as log:
        settings = service_settings(config, Path(folder) / "runs.sqlite") | {"cache_mb": "0"}
        with (
            Stack(ports, settings, lambda name, line: print(name, line, file=log)) as stack,
            Client(ports.edge_url, ports.edge_url) as client,
        ):
            stack.wait_ready()
            engine = HttpEngine(client, [run.condition for run in plan], fidelity=False)
            manifest = folders.begin(args.out, folders.describe(data, truth, options, engine.identity, plan))
            with Records(args.out, data.name, truth, engine.identity, plan) as records:
                for image_id, path in track(images.items(), "image"):
                    for index, run in enumerate(plan):
                        item = WorkItem.still(image_id, path, (index,))

                        def infer(item: WorkItem = item) -> ItemResult:
                            [computed] = engine.run([item])
                            if not isinstance(computed, ItemResult):
                                raise SystemExit(f"image {computed.image_id}: {computed.why}")
                            return computed

                        _set_link(ports, {})
                        infer()  # the first after another condition is slower
                        computed = infer()
                        records.add(computed)
                        for rate in random.sample(RATES, len(RATES)):
                            if computed.result.bits / rate / 1e6 > args.patience:
                                continue
                            _set_link(ports, {"rate_mbps": rate, "rtt_ms": RTT_MS, "wait": True})
                            begun = time.monotonic()
                            infer()
                            walls[rate][run.id][image_id] = 1e3 * (time.monotonic() - begun)
                    (args.out / "walls.json").write_text(json.dumps(walls))
                manifest["finished"] = folders.now()
                finish(args.out, records, truth, manifest, Console(quiet=True))
    return walls


def _set_link(ports: Ports, link: dict[str, object]) -> None:
    httpx.put(f"{ports.channel_url}/v1/link", json=link, timeout=30).raise_for_status()


def predicted(sweep: Sweep, option: Option, decision: Decision, images: list[int]) -> float:
    """Mean latency of some images, in ms."""
    samples = sweep.samples
    if samples is None:
        raise SystemExit("the sweep has no samples")
    places = np.searchsorted(samples.images, images)
    one = option.candidate
    link = decision.query.route.expected_ms(one.bits[places])
    return float(np.mean(one.edge_ms[places] + one.cloud_ms[places] + one.hops_ms[places] + link))


def compare(args: argparse.Namespace, walls: Walls) -> None:
    """Print both, and whether the same wins."""
    sweep, errors = open_sweep(args.out), []
    print("| Mbit/s | sent | predicted, ms | replayed, ms | off by | images | |\n|--:|---|--:|--:|--:|--:|---|")
    verdicts = []
    for rate in RATES:
        decision = decide(sweep, make_query(rate=rate, rtt=RTT_MS), crossings=False)
        replayed: dict[str, float] = {}
        for option in decision.options:
            row = option.candidate.row
            found = walls[rate].get(row.id, {})
            if not found:
                print(f"| {rate:g} | {row.domain}: {option.candidate.name} | {option.latency_ms:,.0f} | – | – | 0 | |")
                continue
            ours, theirs = predicted(sweep, option, decision, sorted(found)), float(np.mean(list(found.values())))
            replayed[row.id] = theirs
            errors.append(ours / theirs - 1)
            note = "best" if option is decision.best else "too close to call" if row.id in decision.rivals else ""
            print(
                f"| {rate:g} | {row.domain}: {option.candidate.name} | {ours:,.0f} | {theirs:,.0f} | "
                f"{100 * errors[-1]:+.1f} % | {len(found)} | {note} |"
            )
        enough = {one.candidate.row.id for one in decision.options if one.meets}
        winner = min(enough & replayed.keys(), key=lambda name: replayed[name], default=None)
        best = None if decision.best is None else decision.best.candidate.row.id
        same = "the same" if winner == best else "too close to call" if winner in decision.rivals else "ANOTHER"
        verdicts.append(f"{rate:g} Mbit/s: decided {best}; replayed {winner}: {same}. {decision.sentence}")
    print("\n" + "\n".join(verdicts))
    spread = np.abs(errors)
    print(
        f"\n{len(errors)} latencies, off by {100 * spread.mean():.1f} % on average, at most {100 * spread.max():.1f} %"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--patience", type=float, default=40)
    parser.add_argument("--min-size", type=int, help="of the network input")
    parser.add_argument("--max-size", type=int, help="the same")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ports", type=int, nargs=3, default=(8201, 8202, 8203))
    args = parser.parse_args()
    compare(args, measure(args))


if __name__ == "__main__":
    main()
