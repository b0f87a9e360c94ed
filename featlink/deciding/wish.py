"""What is asked for: the link, the machines, and what is good enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from featlink.channel.link import Link
from featlink.deciding.links import Route
from featlink.deciding.trace import read_trace
from featlink.errors import CommandError

DEFAULT_KEEP = 0.95
"""Share of clean AP that is to be kept where neither a floor nor a deadline is named."""


@dataclass(frozen=True, eq=False)
class Wish:
    """A question to a sweep.

    Attributes:
        route: the link.
        edge_speed: how many times as fast the edge is as the machine that was measured.
        cloud_speed: the same of the cloud.
        floor: least AP in 0..1; None for none.
        keep: least share of the domain's clean AP; None for none.
        deadline_ms: an image whose answer comes later counts as not detected; None for none.
        kind: ``segm`` or ``bbox``; None for the sweep's leading one.
    """

    route: Route
    edge_speed: float = 1.0
    cloud_speed: float = 1.0
    floor: float | None = None
    keep: float | None = None
    deadline_ms: float | None = None
    kind: str | None = None


def make_wish(
    *,
    rate: float | None = None,
    trace: Path | None = None,
    rtt: float = 0,
    jitter: float = 0,
    loss: float = 0,
    edge_speed: float = 1.0,
    cloud_speed: float = 1.0,
    floor: float | None = None,
    keep: float | None = None,
    deadline: float | None = None,
    kind: str | None = None,
) -> Wish:
    """Check a question.

    Args:
        rate: of the link, 10⁶ bits per second.
        trace: a file of its rate over time instead (:func:`featlink.deciding.trace.read_trace`).
        rtt: round trip in ms.
        jitter: standard deviation of the one-way delay in ms.
        loss: share of packets that are lost and sent again, 0 to 0.99.
        edge_speed: above 0; 2 is twice as fast as measured.
        cloud_speed: the same.
        floor: least AP in percent.
        keep: least share of clean AP in percent; 95 where neither ``floor`` nor ``deadline`` is given.
        deadline: ms.
        kind: ``segm`` or ``bbox``.

    Raises:
        CommandError: something is out of its range, or there is no link, or two.
    """
    if (rate is None) == (trace is None):
        raise CommandError("give the link's rate in Mbit/s or the file of a trace, one of them")
    if floor is not None and keep is not None:
        raise CommandError("give a floor of AP or of what is kept of it, not both")
    for name, value in (("edge speed", edge_speed), ("cloud speed", cloud_speed), ("deadline", deadline)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise CommandError(f"{name} is to be above 0, not {value:g}")
    for name, value, most in (("floor", floor, 100), ("share to keep", keep, 1000)):
        if value is not None and not 0 <= value <= most:
            raise CommandError(f"{name} is in percent, from 0 to {most}, not {value:g}")
    if kind not in (None, "segm", "bbox"):
        raise CommandError(f"AP is that of segm or bbox, not {kind!r}")
    fields: dict[str, Any] = {"rate_mbps": rate, "rtt_ms": rtt, "jitter_ms": jitter, "loss": loss}
    try:
        link = Link(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"link: {first['loc'][0]}: {first['msg']}") from None
    if floor is None and keep is None and deadline is None:
        keep = 100 * DEFAULT_KEEP
    return Wish(
        Route(link, None if trace is None else read_trace(trace)),
        edge_speed,
        cloud_speed,
        None if floor is None else floor / 100,
        None if keep is None else keep / 100,
        deadline,
        kind,
    )
