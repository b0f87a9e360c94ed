"""What Schemathesis is to ask with, beside what it makes up: it loads this file in its own environment.

Bodies are pictures and frames, whole and damaged; names, ids and conditions are often ones that the services know.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

SAMPLES = "FUZZ_SAMPLES"
"""Environment variable that names the folder of whole pictures and frames."""

RUN = "FUZZ_RUN"
"""Environment variable with the id of a run of :data:`DATASET`."""

DATASET = "bundled"
_CONDITIONS = (
    "quantize:bits=4",
    "image: jpeg(quality=20)",
    "gaussian_noise(sigma=3) | quantize(bits=3)",
    "pca | entropy",
)
_LINKS = ('{"rate_mbps": 20, "rtt_ms": 40}', '{"loss": 0.2, "on_loss": "erase"}', '{"rtt_ms": 7200000, "wait": true}')


def _damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 4])):
        within = len(changed) if chance.random() < 0.3 else min(len(changed), 600)
        changed[chance.randrange(within)] = chance.randrange(256)
    return bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.1 else changed)


def _often(value: Any) -> bool:
    return random.Random(repr(value)).random() < 0.7


def _register() -> None:
    import schemathesis
    from hypothesis import strategies as st

    files = sorted(Path(os.environ[SAMPLES]).iterdir())
    samples = {
        kind: [path.read_bytes() for path in files if (path.suffix == ".frame") is (kind == "frame")]
        for kind in ("frame", "picture")
    }

    def bodies(kind: str) -> st.SearchStrategy[bytes]:
        some = st.builds(
            lambda data, seed: _damaged(data, random.Random(seed)),
            st.sampled_from(samples[kind]),
            st.integers(0, 2**32),
        )
        return st.one_of(some, some, st.binary(max_size=200))

    @schemathesis.hook
    def map_path_parameters(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        known = {"run_id": os.environ[RUN], "name": DATASET}
        if parameters and context.operation.method != "delete" and _often(parameters):
            parameters |= {name: known[name] for name in parameters}
        return parameters

    @schemathesis.hook
    def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
        chance = random.Random(repr(query))
        known = {"condition": chance.choice(_CONDITIONS), "link": chance.choice(_LINKS), "run": os.environ[RUN]}
        known |= {"image_id": chance.randrange(1, 70), "received": chance.choice(["image", "p2,p5", "p6"])}
        if query:
            query |= {name: known[name] for name in query if name in known and chance.random() < 0.7}
        return query

    for media_type in ("image/png", "image/jpeg"):
        schemathesis.openapi.media_type(media_type, bodies("picture"))
    schemathesis.openapi.media_type("application/vnd.featlink.frame", bodies("frame"))


if SAMPLES in os.environ:
    _register()
