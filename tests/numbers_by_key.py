"""What engines must agree on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from featlink.sweeps.engine import ItemError, ItemResult

Numbers = dict[tuple[int, int], tuple[Any, int, Any]]
"""By image and condition: detections, bits and fidelity."""


def numbers(outcomes: Iterable[ItemResult | ItemError]) -> Numbers:
    """Each result once, and no failure."""
    found: Numbers = {}
    for outcome in outcomes:
        assert isinstance(outcome, ItemResult), outcome
        result = outcome.result
        assert (result.image_id, outcome.run) not in found
        found[result.image_id, outcome.run] = (result.detections, result.bits, result.fidelity)
    return found
