"""Estimate a sweep's time and disk space from a few of its pictures, computed as the sweep would."""

from __future__ import annotations

import math
import statistics
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
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import run_sweep

_ONCE = ("decode", "backbone")
"""Stages that a picture goes through once for all conditions of its domain."""
_INDEX_BYTES = 32
"""Of an image's row in the database, before it has results."""
_KINDS = 6


@dataclass(frozen=True)
class Estimate:
    """What is left of a sweep.

    Attributes:
        pictures: seconds of each that was timed; the first one, which warms up, is left out unless it is alone.
        left: how many have no results yet.
        before: seconds until the first picture, and what the first takes longer than others.
        after: seconds of the evaluation at the end.
        folder_bytes: of the whole sweep's output.
        picture_bytes: of it, for each picture.
        shares: kind of condition to its share of the time, the largest first; they add up to 1.
    """

    pictures: Sequence[float]
    left: int
    before: float
    after: float
    folder_bytes: int
    picture_bytes: float
    shares: dict[str, float]

    @property
    def picture(self) -> float:
        """Seconds that a picture takes: the median, as one that something else disturbed says little of the rest."""
        return statistics.median(self.pictures)

    def seconds(self, workers: int = 1) -> tuple[float, float, float]:
        """Estimate the time until the sweep is complete.

        Args:
            workers: how many, each like the one that was timed, and each with one picture at a time.

        Returns:
            Seconds: likely, and were all pictures like the fastest and like the slowest that was timed.
        """
        rounds = math.ceil(self.left / workers)
        likely, low, high = (
            self.before + rounds * one + self.after for one in (self.picture, min(self.pictures), max(self.pictures))
        )
        return likely, low, high


def estimate(options: SweepOptions, kept: bool, console: Console) -> Estimate:
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
    if not ended.times.pictures or not ended.rows:
        raise CommandError("no picture was computed" if ended.left or ended.failed else "nothing is left of this sweep")
    data = open_dataset(options.dataset, options.truth, options.pictures)
    done, planned = ended.rows[0].images, ended.planned
    first, *others = ended.times.pictures
    pictures = others or [first]
    fixed = len(zlib.compress(coco.dump(ground_truth(data, options.truth)[0]), 1)) + _INDEX_BYTES * len(data.images)
    used = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    picture_bytes = max(0, used - fixed) / done
    return Estimate(
        pictures=pictures,
        left=ended.left if kept else planned,
        before=ended.times.starting + max(0.0, first - statistics.median(pictures)),
        after=ended.times.evaluating * planned / done,
        folder_bytes=fixed + round(picture_bytes * planned),
        picture_bytes=picture_bytes,
        shares=shares(ended.rows),
    )


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


def sentences(estimate: Estimate) -> list[str]:
    """Say what the figures are made of, and how much disk the sweep needs."""
    low, high = min(estimate.pictures), max(estimate.pictures)
    kinds = [f"{kind} {share:.0%}" for kind, share in list(estimate.shares.items())[:_KINDS]]
    timed = (
        f"the median of {len(estimate.pictures)}, which took {low:.1f} to {high:.1f} s"
        if len(estimate.pictures) > 1
        else "of which one was timed"
    )
    return [
        f"A picture takes {estimate.picture:.1f} s, {timed}. Added are {duration(estimate.before)} for the start and "
        f"the first picture, and {duration(estimate.after)} for the evaluation at the end.",
        f"Disk: {estimate.folder_bytes / 1e9:.2f} GB, {estimate.picture_bytes / 1e6:.2f} MB for each picture.",
        f"Time by kind of condition: {', '.join(kinds)}{', …' if len(estimate.shares) > _KINDS else ''}.",
    ]


def duration(seconds: float) -> str:
    """A time in words, in two units.

    Example:
        >>> duration(0.4), duration(59), duration(3700), duration(200_000)
        ('0 s', '59 s', '1 h 1 min', '2 d 7 h')
    """
    rest = round(seconds)
    if rest < 60:
        return f"{rest} s"
    units = (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1))
    large, small, size, part = next(unit for unit in units if rest >= unit[2])
    return f"{rest // size} {large} {rest % size // part} {small}"
