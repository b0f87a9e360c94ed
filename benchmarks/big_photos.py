"""Photos of 12 and 48 megapixels against the same one at 1 megapixel, over HTTP, and the services' memory meanwhile.

    python -m benchmarks.big_photos --times 5
    python -m benchmarks.big_photos --times 1 --clients 140

Starts the three services as `featlink up` does. One scene, enlarged and with a camera's noise, is sent at each size in
turn, as features and as an image, with and without a step. The last line is JSON: medians of seconds and of the
services' CPU seconds, their ratios to 1 megapixel, and the most memory that each service had since its start. On a busy
machine, CPU seconds say more. With --clients, that many send the largest at once afterwards, more than the services
take in; how each was answered is counted.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import io
import json
import os
import statistics
import sys
import tempfile
import time

import httpx
import numpy as np
from PIL import Image

from featlink.launcher import Stack, free_ports
from featlink.starter.bundle import SCENES

_MEGAPIXELS = (1, 12, 48)
_CONDITIONS = ("identity", "quantize:bits=4", "image: identity", "image: quantize(bits=4)")


def photo(megapixels: int) -> bytes:
    """A scene as a JPEG of 4:3 with a camera's noise."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    size = (round(height * 4 / 3), height)
    with Image.open(SCENES / "val" / "000000000001.jpg") as scene:
        pixels = np.asarray(scene.convert("RGB").resize(size, Image.Resampling.LANCZOS)).astype(np.int16)
    pixels += np.random.default_rng(0).normal(0, 3, (height, size[0], 1)).astype(np.int16)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
    return file.getvalue()


def peaks(stack: Stack) -> dict[str, int]:
    """The most memory that each service had, MiB."""
    found = {}
    for name, pid in stack.pids().items():
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        found[name] = int(fields["VmHWM"].split()[0]) >> 10
    return found


def cpu_seconds(stack: Stack) -> float:
    """What all services together have used since their start."""
    ticks = 0
    for pid in stack.pids().values():
        with open(f"/proc/{pid}/stat") as status:
            user, system = status.read().rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def ask(client: httpx.Client, data: bytes, condition: str, stack: Stack) -> tuple[float, float]:
    """Seconds until the answer, and the services' CPU seconds."""
    started, used = time.monotonic(), cpu_seconds(stack)
    client.post("/v1/infer", content=data, params={"condition": condition}).raise_for_status()
    return time.monotonic() - started, cpu_seconds(stack) - used


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--clients", type=int, default=0)
    given = parser.parse_args()
    photos = {size: photo(size) for size in _MEGAPIXELS}
    seconds: dict[tuple[str, int], list[tuple[float, float]]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"database_url": f"sqlite:///{folder}/runs.sqlite", "cache_mb": "0"}
        with Stack(free_ports(), settings, lambda *_: None) as stack:
            stack.wait_ready()
            memory = {"at rest": peaks(stack)}
            with httpx.Client(base_url=stack.ports.edge_url, timeout=300, trust_env=False) as client:
                for number in range(given.times + 1):  # the first is not counted
                    for size, data in photos.items():
                        for condition in _CONDITIONS:
                            took = ask(client, data, condition, stack)
                            if number:
                                seconds[condition, size].append(took)
                        memory.setdefault(f"{size} megapixels", peaks(stack))
            statuses = crowd(stack.ports.edge_url, photos[_MEGAPIXELS[-1]], given.clients)
            if given.clients:
                memory[f"{given.clients} clients"] = peaks(stack)
    rows: dict[str, dict[str, list[float]]] = {}
    for condition in _CONDITIONS:
        rows[condition] = {}
        for kind, values in enumerate(("seconds", "CPU seconds")):
            medians = [statistics.median(took[kind] for took in seconds[condition, size]) for size in _MEGAPIXELS]
            rows[condition][values] = [round(median, 2) for median in medians]
            rows[condition][f"ratios of {values}"] = [round(median / medians[0], 2) for median in medians]
        print(condition, rows[condition], file=sys.stderr)
    print(json.dumps({"megapixels": _MEGAPIXELS, **rows, "MiB": memory, "statuses": statuses}))


def crowd(edge: str, data: bytes, clients: int) -> dict[int, int]:
    """How many got which status."""

    def one(number: int) -> int:
        condition = _CONDITIONS[number % len(_CONDITIONS)]
        with httpx.Client(base_url=edge, timeout=900, trust_env=False) as client:
            return client.post("/v1/infer", content=data, params={"condition": condition}).status_code

    with concurrent.futures.ThreadPoolExecutor(max(clients, 1)) as pool:
        return dict(collections.Counter(pool.map(one, range(clients))))


if __name__ == "__main__":
    main()
