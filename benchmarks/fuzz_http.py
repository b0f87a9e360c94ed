"""Schemathesis against the three services: no 5xx but a clean 503, and no answer that is not in the OpenAPI documents.

    python -m venv fuzz && fuzz/bin/pip install schemathesis==4.32.5
    python -m benchmarks.fuzz_http --schemathesis fuzz/bin/schemathesis --examples 400

Starts the services as `featlink up` does, with a small network, and lets Schemathesis make requests from what each
says of itself, right and wrong ones; bodies are pictures and frames, whole and damaged, too. The last line is JSON; the
exit code is 1 if a check failed or a service died. Reports are left in `--out`.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import benchmarks.fuzz_bodies as bodies
from benchmarks.fuzz_frames import frames
from benchmarks.load import held
from featlink.client import Client
from featlink.launcher import Stack, free_ports
from featlink.starter.bundle import SCENES

_SMALL = {"min_size": "64", "max_size": "96", "proposals": "50", "max_detections": "10", "max_wait_s": "0.5"}
_CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]
# Any refusal of what is wrong will do: a condition that is too long for an address gets 431.
negative_data_rejection.expected-statuses = ["4xx", 503]
# A picture of noise is no picture, and a run that is named does not exist: right by the document, refused all the same.
positive_data_acceptance.enabled = false
"""


def fuzz(command: str, url: str, examples: int, seed: int, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """One service's answers: how many requests were sent, their statuses, and what was wrong."""
    (folder / "schemathesis.toml").write_text(_CONFIG)
    events = folder / "events.ndjson"
    given = {"--max-examples": examples, "--seed": seed, "--report-ndjson-path": events, "--request-timeout": 60}
    words = [command, "run", f"{url}/openapi.json", "--continue-on-failure", "--no-color"]
    words += [str(word) for pair in given.items() for word in pair]
    with (folder / "output.txt").open("w") as output:
        done = subprocess.run(words, cwd=folder, env=environment, stdout=output, stderr=output, check=False)
    statuses: collections.Counter[str] = collections.Counter()
    failed: collections.Counter[str] = collections.Counter()
    for line in events.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for interaction in recorder.get("interactions", {}).values():
            response = interaction.get("response")
            statuses[str(response["status_code"] if response else "no answer")] += 1
        for checks in recorder.get("checks", {}).values():
            failed.update(check["name"] for check in checks if check["status"] == "failure")
    return {
        "cases": sum(statuses.values()),
        "statuses": dict(statuses),
        "failed": dict(failed),
        "code": done.returncode,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemathesis", default="schemathesis", help="its program, in an environment of its own")
    parser.add_argument("--examples", type=int, default=400, help="random requests for each path and method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    given = parser.parse_args()
    command = str(Path(given.schemathesis).resolve()) if "/" in given.schemathesis else given.schemathesis
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        samples.mkdir()
        for number, frame in enumerate(frames()):
            (samples / f"{number}.frame").write_bytes(frame)
        for scene in sorted((SCENES / "val").iterdir(), key=lambda path: path.stat().st_size)[:2]:
            shutil.copy(scene, samples)
        environment = os.environ | {"SCHEMATHESIS_HOOKS": bodies.__file__, bodies.SAMPLES: str(samples)}
        settings = _SMALL | {"database_url": f"sqlite:///{folder}/runs.sqlite"}
        with Stack(free_ports(), settings, lambda *_: None) as stack:
            stack.wait_ready()
            with Client(stack.ports.edge_url, stack.ports.cloud_url) as client:
                client.put_dataset(bodies.DATASET, SCENES / "annotations/instances_val.json")
                environment[bodies.RUN] = client.create_run(bodies.DATASET, "quantize:bits=4", "feature")
            before, pids, started = held(stack), stack.pids(), time.monotonic()
            for name in ("edge", "channel", "cloud"):
                place = given.out / name
                place.mkdir(parents=True, exist_ok=True)
                url = getattr(stack.ports, f"{name}_url")
                result[name] = fuzz(command, url, given.examples, given.seed, place.resolve(), environment)
                print(name, json.dumps(result[name]), file=sys.stderr)
            alive = stack.pids() == pids
            result |= {"seconds": round(time.monotonic() - started), "held": {"before": before, "after": held(stack)}}
    total = sum(result[name]["cases"] for name in ("edge", "channel", "cloud"))
    print(json.dumps({"cases": total, "alive": alive, **result}))
    sys.exit(not alive or any(result[name]["code"] for name in ("edge", "channel", "cloud")))


if __name__ == "__main__":
    main()
