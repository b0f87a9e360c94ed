"""Run a sweep in a child process and kill it, again and again; then let it finish. Started by test_kill.py.

    python kill_loop.py DATASET WEIGHTS OUT KILLS

The model is loaded once and the children are forked, so that a start costs nothing: this process must have used no
threads until then. Every computation of an image under a condition is logged to OUT.log when it begins.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from waiting import wait_until

import featlink.sweeps.local as local
import featlink.sweeps.stages as stages
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import build
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import run_sweep

CONDITIONS = ("paper.table4", "image: gaussian_noise(sigma=20)", "image: vvenc(qp=40)", "packet_loss(rate=0.1)")


def main(dataset: Path, weights: Path, out: Path, kills: int) -> None:
    """Kill a sweep ``kills`` times at random moments."""
    cv2.setNumThreads(1)
    config = ModelConfig(
        weights=str(weights),
        profile="exact",
        min_size=64,
        max_size=96,
        score_threshold=0.01,
        proposals=50,
        max_detections=8,
        threads=1,
    )
    model, log = build(config), out.with_suffix(".log")
    real_transmit = stages.transmit

    def logged_transmit(frame: Any, condition: Any, *rest: Any, **named: Any) -> Any:
        with log.open("a") as file:
            file.write(f"{time.time()}\t{frame.meta.image_id}\t{condition}\n")
        return real_transmit(frame, condition, *rest, **named)

    def sweep() -> None:
        stages.transmit = logged_transmit  # type: ignore[attr-defined]
        local.build_local = lambda *args: local.LocalEngine(  # work ahead, as with more threads than one
            model, args[1], args[2], threads=2
        )
        run_sweep(SweepOptions(dataset, config, CONDITIONS, out, seeds=(0, 1), limit=3), Console(quiet=True))

    choose = random.Random(3)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            sweep()
            os._exit(0)
        enough = _lines(log) + choose.randrange(4)
        wait_until(partial(_has_lines, log, enough), "the next result", pause=0.001)
        time.sleep(choose.random() * 0.2)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit("it ended before it could be killed")
    sweep()


def _has_lines(log: Path, count: int) -> bool:
    return _lines(log) >= count


def _lines(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
