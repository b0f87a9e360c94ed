"""What engines must agree on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from featlink.sweeps.engine import Failure, Outcome

Numbers = dict[tuple[int, int], tuple[Any, int, Any]]
"""By image and condition: detections, bits and fidelity."""


def numbers(outcomes: Iterable[Outcome | Failure]) -> Numbers:
    """Each result once, and no failure."""
    found: Numbers = {}
    for outcome in outcomes:
        assert isinstance(outcome, Outcome), outcome
        result = outcome.result
        assert (result.image_id, outcome.index) not in found
        found[result.image_id, outcome.index] = (result.detections, result.bits, result.fidelity)
    return found
