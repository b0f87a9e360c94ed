"""Run in a process of its own, in which `more_steps` is installed: writes down what Featlink makes of its steps."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from featlink import results
from featlink.channel.app import create_app
from featlink.channel.transmit import transmit
from featlink.report.curves import bd_table, curve_figures
from featlink.report.sweep import Sweep, families, pair_name, pairs
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import parse
from featlink.shared.features import Sizes
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.models.config import ModelConfig
from featlink.shared.result import Telemetry
from featlink.starter.bundle import SCENES
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import run_sweep

SMALL = ModelConfig(weights="starter", min_size=128, max_size=224, threads=1, proposals=100, max_detections=20)
CONDITIONS = tuple(
    f"{domain}: {step}"
    for domain in ("feature", "image")
    for step in (
        *(f"salt_and_pepper(share={share})" for share in (0.01, 0.1, 0.4)),
        *(f"pillow_webp(quality={quality})" for quality in (80, 20, 0)),
    )
)


async def catalogue() -> dict[str, Any]:
    """``GET /v1/conditions`` of the channel."""
    transport = httpx.ASGITransport(create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://channel") as client:
        answer: dict[str, Any] = (await client.get("/v1/conditions")).raise_for_status().json()
    return answer


def colours_of_noise() -> list[tuple[int, ...]]:
    """The colours that salt and pepper leave in a picture of one colour."""
    pixels = np.broadcast_to(np.array([10, 20, 30], np.uint8)[:, None, None], (3, 20, 30))
    frame = Frame(Meta("image", "m", "w", Sizes((20, 30), (20, 30), (32, 32))), (Tensor("image", pixels),))
    sent = transmit(frame, parse("image: salt_and_pepper(share=0.5)"), Telemetry())
    samples = sent.frame.tensor("image").data.reshape(3, -1).T
    return sorted(set(map(tuple, samples.tolist())))


def main(out: Path) -> None:
    """Sweep over both steps in both domains, and make the report's parts."""
    run_sweep(SweepOptions(SCENES, SMALL, CONDITIONS, out, limit=1), Console(quiet=True))
    sweep = Sweep(out, results.load(out), results.load_manifest(out))
    table = bd_table(sweep)
    found = {
        "steps": list(registry.steps()),
        "colours": colours_of_noise(),
        "failures": dict(registry.failures()),
        "schema": asyncio.run(catalogue())["schema"]["$defs"],
        "rows": {row.id: [row.bits_per_image, row.fidelity.get("psnr_f")] for row in sweep.rows},
        "curves": {
            figure.id: sorted({trace["name"] for trace in figure.traces if "lines" in trace["mode"]})
            for figure in curve_figures(sweep)
        },
        "pairs": [pair_name(*pair) for pair in pairs(families(sweep.rows))],
        "rates": [] if table is None else table.rows,
    }
    (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
