"""Run a sweep in a child process and kill it, again and again; then let it finish. Started by test_kill.py.

    python kill_loop.py DATASET OUT KILLS

The model is loaded once and the children are forked, so that a start costs nothing: this process must have used no
threads until then. Every computation of an image under a condition is logged to OUT.log when it begins.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
from rich.console import Console
from tiny_model import TINY
from waiting import wait_until

from featlink.channel.codecs.base import Tools
from featlink.shared.conditions.language import Condition
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.registry import build
from featlink.sweeps.engine import ItemError
from featlink.sweeps.local import LocalEngine
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import run_sweep
from featlink.sweeps.stages import Prepared, Sender, Sent, Stages

CONDITIONS = ("paper.table4", "image: gaussian_noise(sigma=20)", "image: vvenc(qp=40)", "packet_loss(rate=0.1)")


class Logged(Stages):
    """Notes in a file when it begins with an image under a condition."""

    log: Path
    texts: list[str]

    def open(self, index: int, still: bool) -> Sender:
        sender = super().open(index, still)
        push = sender.push

        def logged(number: int, frame: Prepared | ItemError, last: bool) -> list[Sent | ItemError]:
            with self.log.open("a") as file:
                file.write(f"{time.time()}\t{frame.image_id}\t{self.texts[index]}\n")
            return push(number, frame, last)

        sender.push = logged  # type: ignore[method-assign]
        return sender


def main(dataset: Path, out: Path, kills: int) -> None:
    """Kill a sweep ``kills`` times at random moments."""
    cv2.setNumThreads(1)
    config = ModelConfig(model=TINY, threads=1)
    model, log = build(config), out.with_suffix(".log")

    @contextlib.contextmanager
    def open_engine(options: SweepOptions, conditions: Sequence[Condition]) -> Iterator[LocalEngine]:
        stages = Logged(model, conditions, options.fidelity, Tools(threads=1))
        stages.log, stages.texts = log, list(map(str, conditions))
        yield LocalEngine(stages, threads=2)  # work ahead, as with more threads than one

    def sweep() -> None:
        options = SweepOptions(dataset, config, CONDITIONS, out, seeds=(0, 1), limit=3)
        run_sweep(options, Console(quiet=True), open_engine)

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
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
