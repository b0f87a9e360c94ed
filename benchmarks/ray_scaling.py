"""Throughput of the ``ray`` engine with two workers of one thread each against one.

    pip install -e '.[ray]'
    python -m benchmarks.ray_scaling

Both clusters are started on this machine, which needs a free core for each worker, in turn and several times. On two
Ray nodes, each with one core, of this machine or two:

    export RAY_AUTH_MODE=disabled  # on a machine that nobody else reaches
    ray start --head --port=6399 --num-cpus=1
    ray start --address=127.0.0.1:6399 --num-cpus=1
    python -m benchmarks.ray_scaling --ray-address 127.0.0.1:6399
    ray stop

Starting workers, loading the models and warm-up pictures are not counted. The last line is JSON with ``ratio``, the
median throughput of two workers over that of one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

from featlink.dataset import open_dataset
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.cluster import Cluster, RayEngine
from featlink.sweeps.engine import WorkItem
from featlink.sweeps.plan import make_plan


def throughput(workers: int, args: argparse.Namespace) -> float:
    """Results per second."""
    conditions = [run.condition for run in make_plan([args.conditions], [0])]
    images = list(open_dataset(Path("starter")).images.items())
    every = tuple(range(len(conditions)))
    config = ModelConfig(weights="starter", threads=1)
    with RayEngine(config, conditions, True, Cluster(workers, args.ray_address)) as engine:
        warm: set[int] = set()  # how many workers there were when a picture was done
        endless = (WorkItem.still(image, path, every[:2]) for image, path in itertools.cycle(images))
        more = itertools.takewhile(lambda _: workers not in warm, endless)
        for _ in engine.run(more):
            warm.add(len(engine.workers))
        for _ in engine.run([WorkItem.still(image, path, every[:2]) for image, path in images[-workers:]]):
            pass
        started = time.perf_counter()
        found = sum(
            1 for _ in engine.run([WorkItem.still(image, path, every) for image, path in images[: args.images]])
        )
        return found / (time.perf_counter() - started)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conditions", default="paper.table4")
    parser.add_argument("--images", type=int, default=8, help="even, so that two workers end together")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ray-address", help="of a cluster with two nodes; default: start one here, with one node")
    args = parser.parse_args()
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(args.repeats):
        for workers, found in rates.items():
            found.append(throughput(workers, args))
            print(f"{workers} workers: {found[-1]:.2f} results a second", flush=True)
    medians = {workers: statistics.median(found) for workers, found in rates.items()}
    print(json.dumps({"one": medians[1], "two": medians[2], "ratio": medians[2] / medians[1]}))


if __name__ == "__main__":
    main()
