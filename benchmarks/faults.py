"""Services killed at random, and a link cut, during a run: its results and metrics must be those of an undisturbed one.

    python -m benchmarks.faults --images 300 --kills 20 --cut 30
    mkdir small && sudo mount -t tmpfs -o size=8m tmpfs small && python -m benchmarks.faults --images 20 --disk small

Starts the three services as `featlink up` does, collects a run over the bundled scenes, repeated under new ids until
there are enough, and then a second one while `kill -9` hits services at random moments, which the launcher starts
again. Before that, with --cut, the channel stands still for so many seconds. With --disk, a folder on a small file
system that nothing else writes to, the disk with the database gets full during a run, and has room again; then the
database's file is deleted. The last line is JSON; the exit code is 1 if anything differs, or what was acknowledged is
lost, or an error is not clear.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

import featlink.client as client_module
import featlink.launcher as launcher
from featlink.client import Client
from featlink.errors import RefusalError
from featlink.launcher import Stack, free_ports
from featlink.shared.errors import StorageError
from featlink.starter.bundle import SCENES

_SMALL = {"min_size": "160", "max_size": "213"}
_CONDITION = "quantize:bits=4"
_LEFT_BYTES = 64 << 10
"""Room on the full disk: enough for some results."""


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


def collect(
    client: Client, pictures: list[tuple[int, str]], sabotage: Callable[[int], None] = lambda index: None
) -> tuple[list[Any], dict[str, Any]]:
    """A run's detections and metrics, without its timings and id."""
    run = client.create_run("many", _CONDITION, "feature")
    detections = []
    for index, (number, name) in enumerate(track(pictures, console=Console(stderr=True))):
        data = (SCENES / "val" / name).read_bytes()
        sabotage(index)
        answer = client.infer(data, condition=_CONDITION, run=run, image_id=number)
        detections.append(answer.detections)
    metrics = client.metrics(run)
    done = metrics.pop("run")["done"]
    metrics.pop("timings")
    return detections, {**metrics, "done": done}


def cut(stack: Stack, seconds: float) -> None:
    """Let the channel stand still: nothing gets through, and no connection ends."""
    pid = stack.pids()["channel"]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def full_disk(folder: Path, annotations: Path, pictures: list[tuple[int, str]]) -> dict[str, Any]:
    """What happens when the disk gets full during a run, has room again, and then loses the database's file."""
    filler, database = folder / "filler", folder / "runs.sqlite"
    found: dict[str, Any] = {"acknowledged": 0, "refusal": None}
    settings = _SMALL | {"database_url": f"sqlite:///{database.resolve()}"}
    with Stack(free_ports(), settings, lambda *_: None) as stack, _client(stack) as client:
        stack.wait_ready()
        client.put_dataset("many", annotations)
        run = client.create_run("many", _CONDITION, "feature")

        def send(number: int, name: str) -> None:
            data = (SCENES / "val" / name).read_bytes()
            client.infer(data, condition=_CONDITION, run=run, image_id=number)

        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        os.truncate(filler, filler.stat().st_size - _LEFT_BYTES)
        try:
            for picture in pictures:
                send(*picture)
                found["acknowledged"] += 1
        except RefusalError as error:
            found["refusal"] = [error.status, str(error)]
        filler.unlink()
        found["done"] = client.metrics(run)["run"]["done"]
        for picture in pictures:
            send(*picture)
        found["done later"] = client.metrics(run)["run"]["done"]
        for stored in folder.glob("runs.sqlite*"):
            stored.unlink()
        try:
            send(*pictures[0])
        except RefusalError as error:
            found["deleted"] = [error.status, str(error)]
    clear = [found["refusal"], found.get("deleted")]
    good = all(one is not None and one[0] == StorageError.status for one in clear)
    found["good"] = good and found["done"] >= found["acknowledged"] and found["done later"] == len(pictures)
    return found


class Saboteur:
    """Cuts the link, then kills services while they answer: each as often, in random order and spread over the run.

    Args:
        stack: whose services.
        cut_s: seconds of the cut, before the first kill; 0 for none.
        kills: of each service.
        images: of the run.
    """

    def __init__(self, stack: Stack, cut_s: float, kills: int, images: int) -> None:
        self._stack, self._cut_s = stack, cut_s
        chance = random.Random(0)
        victims = sorted(stack.pids()) * kills
        chance.shuffle(victims)
        self._due: dict[int, list[tuple[str, float]]] = {}
        for name in victims:
            after_s = chance.uniform(0, 0.3)  # about as long as an answer takes
            self._due.setdefault(chance.randrange(1, images), []).append((name, after_s))
        self.killed: collections.Counter[str] = collections.Counter()
        self._at_work: list[threading.Timer] = []

    def __call__(self, index: int) -> None:
        """Begin what is due while the image of this number in the run is sent and answered."""
        begun = [threading.Timer(after_s, self._kill, [name]) for name, after_s in self._due.get(index, [])]
        if index == 0 and self._cut_s:
            begun.append(threading.Timer(0, cut, [self._stack, self._cut_s]))
        for timer in begun:
            timer.start()
        self._at_work += begun

    def _kill(self, name: str) -> None:
        while not _lives(pid := self._stack.pids()[name]):  # killed a moment ago, and not yet started again
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        self.killed[name] += 1

    def join(self) -> None:
        """Wait for what has begun."""
        for timer in self._at_work:
            timer.join()


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def main() -> None:
    """Run, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20, help="of each service")
    parser.add_argument("--cut", type=float, default=0, help="seconds that the link is cut before the first kill")
    parser.add_argument("--disk", type=Path, help="only fill this folder's small file system during a run")
    given = parser.parse_args()
    launcher._RESTARTS = 1000
    client_module.PATIENCE_SECONDS = 600  # a busy machine starts services slowly
    truth, pictures = many(json.loads((SCENES / "annotations/instances_val.json").read_text()), given.images)
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder) / "many.json"
        annotations.write_text(json.dumps(truth))
        if given.disk is not None:
            found = full_disk(given.disk, annotations, pictures)
            print(json.dumps(found))
            sys.exit(not found["good"])
        settings = _SMALL | {"database_url": f"sqlite:///{folder}/runs.sqlite"}
        with Stack(free_ports(), settings, lambda *_: None) as stack, _client(stack) as client:
            stack.wait_ready()
            client.put_dataset("many", annotations)
            calm = collect(client, pictures)
            saboteur = Saboteur(stack, given.cut, given.kills, len(pictures))
            started = time.monotonic()
            disturbed = collect(client, pictures, saboteur)
            saboteur.join()
            seconds = time.monotonic() - started
    same = [a == b for a, b in zip(calm, disturbed, strict=True)]
    print(json.dumps({"images": len(pictures), "killed": saboteur.killed, "seconds": round(seconds), "equal": same}))
    sys.exit(not all(same))


def _client(stack: Stack) -> Client:
    return Client(stack.ports.edge_url, stack.ports.cloud_url)


if __name__ == "__main__":
    main()
