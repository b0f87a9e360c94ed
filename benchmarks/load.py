"""Many clients against a few: throughput, refusals, wrong answers, and what the services hold on to.

    python -m benchmarks.load --clients 64 --seconds 300
    python -m benchmarks.load --clients 64 --seconds 1800 --mixed

Starts the three services as `featlink up` does. One client first asks each question once; every later answer must equal
that one, timings aside. Then 4 clients ask for a while, then many; throughput of both, each refusal's status, the time
until an answer, and the services' memory, threads and file handles before, in the middle and after are printed. The
last line is JSON. With --mixed, clients also hang up, send rubbish, and read slowly.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from typing import Any

import httpx

from featlink.launcher import Stack, free_ports
from featlink.starter.bundle import SCENES

_CONDITIONS = ("quantize:bits=4", "identity", "image: quantize(bits=3)", "gaussian_noise(sigma=8)")
_SMALL = {"min_size": "160", "max_size": "213", "cache_mb": "0"}


class Crowd:
    """Clients that ask for a while, and what became of it.

    Args:
        edge: base URL.
        questions: pictures with conditions.
        expected: answer by question.
        mixed: also misbehave.
    """

    def __init__(self, edge: str, questions: list[tuple[str, str]], expected: dict[Any, Any], mixed: bool) -> None:
        self.edge, self.questions, self.expected, self.mixed = edge, questions, expected, mixed
        self.seconds: list[float] = []
        self.statuses: collections.Counter[str] = collections.Counter()
        self.wrong = 0
        self.unclean = 0
        self._lock = threading.Lock()

    def run(self, clients: int, seconds: float) -> float:
        """Answers per second."""
        end, before = time.monotonic() + seconds, self.statuses["200"]
        started = time.monotonic()
        threads = [threading.Thread(target=self._client, args=(number, end)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (self.statuses["200"] - before) / (time.monotonic() - started)

    def _client(self, number: int, end: float) -> None:
        chance = random.Random(number)
        with httpx.Client(base_url=self.edge, timeout=120, trust_env=False) as client:
            while time.monotonic() < end:
                if self.mixed and chance.random() < 0.2:
                    self._misbehave(client, chance)
                    continue
                question = chance.choice(self.questions)
                started = time.monotonic()
                try:
                    response = ask(client, question)
                except httpx.HTTPError as error:
                    with self._lock:
                        self.statuses[type(error).__name__] += 1
                    continue
                with self._lock:
                    self.statuses[str(response.status_code)] += 1
                    if response.is_success:
                        self.seconds.append(time.monotonic() - started)
                        self.wrong += comparable(response) != self.expected[question]
                    else:
                        clean = response.headers.get("content-type") == "application/problem+json"
                        self.unclean += not (
                            response.status_code == 503 and clean and "retry-after" in response.headers
                        )
                if response.status_code == 503:
                    time.sleep(float(response.headers.get("retry-after", 1)) + chance.random())

    def _misbehave(self, client: httpx.Client, chance: random.Random) -> None:
        kind = chance.choice(["leave", "rubbish", "catalogue"])
        try:
            if kind == "leave":
                data = _read(self.questions[0][0])
                client.post("/v1/infer", content=data, timeout=httpx.Timeout(60, read=0.2))
            elif kind == "rubbish":
                client.post("/v1/infer", content=chance.randbytes(chance.randrange(100_000)))
            else:
                client.get("/openapi.json")
        except httpx.HTTPError:
            pass
        with self._lock:
            self.statuses[kind] += 1


def ask(client: httpx.Client, question: tuple[str, str]) -> httpx.Response:
    """Send a picture under a condition."""
    picture, condition = question
    return client.post("/v1/infer", content=_read(picture), params={"condition": condition})


def comparable(response: httpx.Response) -> Any:
    """An answer without its timings."""
    answer = response.json()
    answer.pop("timings")
    return answer


def held(stack: Stack) -> dict[str, dict[str, int]]:
    """Memory (MiB), threads and file handles of each service, by its name."""
    found = {}
    for name, pid in stack.pids().items():
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        found[name] = {
            "MiB": int(fields["VmRSS"].split()[0]) >> 10,
            "threads": int(fields["Threads"]),
            "handles": len(os.listdir(f"/proc/{pid}/fd")),
        }
    return found


_read_files: dict[str, bytes] = {}


def _read(path: str) -> bytes:
    if path not in _read_files:
        with open(path, "rb") as file:
            _read_files[path] = file.read()
    return _read_files[path]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--mixed", action="store_true")
    given = parser.parse_args()
    pictures = [str(path) for path in sorted((SCENES / "val").iterdir())[: given.pictures]]
    questions = list(itertools.product(pictures, _CONDITIONS))
    with tempfile.TemporaryDirectory() as folder:
        settings = _SMALL | {"database_url": f"sqlite:///{folder}/runs.sqlite"}
        with Stack(free_ports(), settings, lambda *_: None) as stack:
            stack.wait_ready()
            with httpx.Client(base_url=stack.ports.edge_url, timeout=120, trust_env=False) as client:
                expected = {question: comparable(ask(client, question).raise_for_status()) for question in questions}
            crowd = Crowd(stack.ports.edge_url, questions, expected, given.mixed)
            few = crowd.run(4, min(60, given.seconds / 4))
            crowd.seconds.clear()
            before = held(stack)
            rates, middle = [], {}
            for half in range(2):
                rates.append(crowd.run(given.clients, given.seconds / 2))
                middle = middle or held(stack)
                print(f"half {half + 1}: {rates[-1]:.2f} answers/s", file=sys.stderr)
            result = {
                "few": round(few, 2),
                "many": [round(rate, 2) for rate in rates],
                "statuses": dict(crowd.statuses),
                "wrong": crowd.wrong,
                "unclean refusals": crowd.unclean,
                "seconds until an answer": [round(x, 1) for x in statistics.quantiles(crowd.seconds, n=100)[49::49]],
                "held": {"before": before, "middle": middle, "after": held(stack)},
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
