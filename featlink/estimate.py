"""What a sweep will take, from a few of its pictures, computed as the sweep would."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from featlink.dataset import ground_truth, open_dataset
from featlink.errors import CommandError
from featlink.results import Row
from featlink.shared.conditions.language import parse
from featlink.shared.evaluation import coco
from featlink.sweeps.options import Options
from featlink.sweeps.pace import Times, Typical, disk_bytes, typical, whole_s
from featlink.sweeps.run import run_sweep

_ONCE = ("decode", "backbone")
"""Stages that a picture goes through once for all conditions of its domain."""
_INDEX_BYTES = 32
"""Of an image's row in the database, before it has results."""


@dataclass(frozen=True)
class Estimate:
    """What is left of a sweep.

    Attributes:
        timed: pictures that the figures come from, the first one not counted.
        left: pictures without results.
        picture: what one takes.
        before: seconds until the first picture, and what the first takes longer than others.
        after: seconds of the evaluation at the end.
        folder_bytes: of the whole sweep's output.
        picture_bytes: of it, for each picture.
        shares: kind of condition to its share of the time, the largest first; they add up to 1.
    """

    timed: int
    left: int
    picture: Typical
    before: float
    after: float
    folder_bytes: int
    picture_bytes: float
    shares: dict[str, float]

    def seconds(self, workers: int = 1) -> tuple[float, float, float]:
        """Until the sweep is complete, with the ends of the range, on so many workers like the one that was timed."""
        low, likely, high = (
            self.before + whole_s(one, self.left, workers) + self.after
            for one in (self.picture.low, self.picture.seconds, self.picture.high)
        )
        return likely, low, high


def estimate(options: Options, kept: bool, console: Console) -> Estimate:
    """Compute a few pictures and say what the others will take.

    Args:
        options: of the sweep; ``sample`` says how many pictures, one more than are timed.
        kept: what is computed belongs to the sweep, and is not left.
        console: shows the progress.

    Raises:
        FeatlinkError: the sweep cannot be run, or none of the pictures can be computed.
        KeyboardInterrupt: it was stopped.
    """
    ended = run_sweep(options, console)
    if ended.why == "interrupted":
        raise KeyboardInterrupt
    data = open_dataset(options.dataset, options.truth)
    if not ended.times.pictures or not ended.rows:
        raise CommandError("no picture was computed" if ended.left or ended.failed else "nothing is left of this sweep")
    done, pictures = ended.rows[0].images, ended.planned
    fixed = len(zlib.compress(coco.dump(ground_truth(data, options.truth)[0]), 1)) + _INDEX_BYTES * len(data.images)
    used = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    whole = disk_bytes(used, fixed, done, pictures)
    return Estimate(
        timed=len(ended.times.pictures),
        left=ended.left if kept else pictures,
        picture=typical(ended.times.pictures),
        before=_before(ended.times),
        after=ended.times.evaluating * pictures / done,
        folder_bytes=whole,
        picture_bytes=(whole - fixed) / pictures,
        shares=shares(ended.rows),
    )


def _before(times: Times) -> float:
    assert times.first is not None
    return times.starting + max(0.0, times.first - typical(times.pictures).seconds)


def shares(rows: Sequence[Row]) -> dict[str, float]:
    """Kind of condition to its share of the stages' time, the largest first.

    A kind is a domain and a chain without parameters. Stages overlap, so this says what a sweep would be without a kind
    only roughly.
    """
    spent: dict[str, float] = defaultdict(float)
    for row in rows:
        chain = " | ".join(step.type for step in parse(row.condition).steps) or "identity"
        for seed in row.seeds:
            spent[f"{row.domain}: {chain}"] += sum(ms or 0 for stage, ms in seed.timings.items() if stage not in _ONCE)
    total = sum(spent.values()) or 1.0
    return {kind: ms / total for kind, ms in sorted(spent.items(), key=lambda item: -item[1])}
