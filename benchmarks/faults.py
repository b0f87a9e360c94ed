"""Services killed at random during a run: the results and metrics must be those of an undisturbed run.

    python -m benchmarks.faults --images 64 --kills 20

Starts the three services as `featlink up` does, collects a run over the bundled scenes, repeated under new ids until
there are enough, and then a second one while `kill -9` hits services at random, which the launcher starts again. The
last line is JSON; the exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import featlink.launcher as launcher
from featlink.client import Client
from featlink.launcher import Stack, free_ports
from starter.bundle import SCENES

_SMALL = {"min_size": "160", "max_size": "213"}
_CONDITION = "quantize:bits=4"


def many(truth: dict[str, Any], count: int) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """A ground truth of ``count`` images, repeated from a smaller one; and each image's id with its file."""
    repeated: dict[str, Any] = {**truth, "images": [], "annotations": []}
    pictures = []
    for copy in range(-(-count // len(truth["images"]))):
        for image in truth["images"][: count - len(pictures)]:
            number = 1_000_000 * copy + image["id"]
            repeated["images"].append({**image, "id": number})
            pictures.append((number, image["file_name"]))
            for one in (a for a in truth["annotations"] if a["image_id"] == image["id"]):
                fresh = {"id": 10_000_000 * copy + one["id"], "image_id": number}
                repeated["annotations"].append({**one, **fresh})
    return repeated, pictures


def collect(client: Client, pictures: list[tuple[int, str]]) -> tuple[list[Any], dict[str, Any]]:
    """A run's detections and metrics, without its timings and id."""
    run = client.create_run("many", _CONDITION, "feature")
    detections = []
    for number, name in pictures:
        data = (SCENES / "val" / name).read_bytes()
        answer = client.infer(data, condition=_CONDITION, run=run, image_id=number)
        detections.append(answer["detections"])
    metrics = client.metrics(run)
    done = metrics.pop("run")["done"]
    metrics.pop("timings")
    return detections, {**metrics, "done": done}


def kill(stack: Stack, kills: int, seconds: float, stop: threading.Event, killed: list[str]) -> None:
    """Kill services at random until there were enough kills or ``stop`` is set."""
    chance = random.Random(0)
    while len(killed) < kills and not stop.wait(chance.uniform(0.3, 1.7) * seconds):
        name, pid = chance.choice(sorted(stack.pids().items()))
        os.kill(pid, signal.SIGKILL)
        killed.append(name)


def main() -> None:
    """Run, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=float, default=15, help="seconds between kills, on average")
    given = parser.parse_args()
    launcher._RESTARTS = 1000
    truth, pictures = many(json.loads((SCENES / "annotations/instances_val.json").read_text()), given.images)
    killed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder) / "many.json"
        annotations.write_text(json.dumps(truth))
        settings = _SMALL | {"database_url": f"sqlite:///{folder}/runs.sqlite"}
        with Stack(free_ports(), settings, lambda *_: None) as stack, _client(stack) as client:
            stack.wait_ready()
            client.put_dataset("many", annotations)
            calm = collect(client, pictures)
            stop = threading.Event()
            killer = threading.Thread(target=kill, args=(stack, given.kills, given.every, stop, killed))
            started = time.monotonic()
            killer.start()
            try:
                disturbed = collect(client, pictures)
            finally:
                stop.set()
                killer.join()
            seconds = time.monotonic() - started
    same = [a == b for a, b in zip(calm, disturbed, strict=True)]
    print(json.dumps({"images": len(pictures), "killed": killed, "seconds": round(seconds), "equal": same}))
    sys.exit(not all(same))


def _client(stack: Stack) -> Client:
    return Client(stack.ports.edge_url, stack.ports.cloud_url)


if __name__ == "__main__":
    main()
