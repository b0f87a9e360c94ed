"""A metric of your own: how well the objects of a picture are counted, beside AP, in a sweep and its report.

Once it is registered, every sweep has it; by the entry-point group `featlink.evaluators` also at the command line.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import featlink as fl


@fl.register_evaluator
class Counting(fl.Evaluator[tuple[int, int]]):
    """Compare how many objects there are with how many are found with a score of at least 0.5."""

    figures = (
        fl.Figure("count.error", "counting error", "%", 100),
        fl.Figure("count.found", "objects found an image"),
    )
    primary = "count.error"

    def update(self, item: Any, truth: Any, prediction: Sequence[Any]) -> tuple[int, int]:
        """Count one picture: the objects that are there, and those that were found."""
        return len(truth.annotations), sum(one["score"] >= 0.5 for one in prediction)

    def compute(self, samples: Sequence[tuple[int, int]]) -> dict[str, float | None]:
        """Take the mean of the pictures; their intervals are made of the same samples."""
        there = sum(count for count, _ in samples)
        return {
            "count.error": sum(abs(count - found) for count, found in samples) / there if there else None,
            "count.found": fmean(found for _, found in samples) if samples else None,
        }


out = Path("out/own_metric")
for row in fl.sweep("starter", ["quantize:bits=3", "image: jpeg(quality=5)"], limit=8, out=out, fidelity=False):
    low, high = row["count_error_low"], row["count_error_high"]
    print(
        f"{row['condition']}: mask AP {100 * row['segm_AP']:.1f}, counting error {100 * row['count_error']:.0f} % "
        f"({100 * low:.0f} to {100 * high:.0f}), {row['count_found']:.1f} objects found an image"
    )
print(f"report: {fl.write_report(out)}")
