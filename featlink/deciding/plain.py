"""A decision as plain data: for JSON, a notebook or a page."""

from __future__ import annotations

import math
from typing import Any

from featlink.deciding.answer import Decision
from featlink.deciding.judge import Option


def plain(decision: Decision) -> dict[str, Any]:
    """Dicts, lists, numbers and text.

    Returns:
        ``sentence``; ``call``: ``feature``, ``image``, ``too close to call`` or ``nothing``; ``best``, the id of the
        winning row; ``options``, the best first, with AP and shares in 0..1 and times in ms; ``stretches``, winners by
        link rate in Mbit/s, whose ends are None where there is none; ``overlapped``.
    """
    return {
        "sentence": decision.sentence,
        "call": decision.call,
        "best": None if decision.best is None else decision.best.candidate.row.id,
        "kind": decision.kind,
        "options": [_option(decision, one) for one in decision.options],
        "stretches": [
            {"from_mbps": one.low or None, "to_mbps": _finite(one.high), "domain": one.domain or None, "name": one.name}
            for one in decision.stretches
        ],
        "overlapped": decision.overlapped,
    }


def _option(decision: Decision, one: Option) -> dict[str, Any]:
    candidate = one.candidate
    return {
        "id": candidate.row.id,
        "domain": candidate.row.domain,
        "reduction": candidate.reduction,
        "codec": candidate.codec,
        "strength": candidate.strength,
        "ap": one.ap,
        "ap_interval": one.ap_interval,
        "kept": one.kept,
        "on_time": one.on_time,
        "kB": candidate.row.bits_per_image / 8000,
        "ms": one.latency_ms,
        "ms_interval": one.latency,
        "edge_ms": one.edge_ms,
        "link_ms": one.link_ms,
        "cloud_ms": one.cloud_ms,
        "hops_ms": one.hops_ms,
        "edge_multiply_adds": candidate.multiply_adds and candidate.multiply_adds[0],
        "cloud_multiply_adds": candidate.multiply_adds and candidate.multiply_adds[1],
        "frames_per_second": _finite(one.frames_per_second),
        "good_enough": one.meets,
        "surely_good_enough": one.surely,
        "on_front": candidate.row.id in decision.front,
        "too_close_to_call": candidate.row.id in decision.rivals,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
