"""What the services report of one image's way: bits, fidelity, time.

It travels in the HTTP header ``featlink-report``, beside the frame and not in it: a real link would
not carry it, and the bits of a condition must not depend on how long something took.
"""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

from featlink.shared.errors import FeatlinkError

HEADER = "featlink-report"
_Bits = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ReportError(FeatlinkError):
    """A report header that does not parse."""

    title = "Invalid report"


class Report(msgspec.Struct, frozen=True):
    """One image's report, grown from service to service.

    Attributes:
        timings: milliseconds by stage, on the monotonic clock of the process that did it; ``transfer``
            is the simulated link's.
        bits: what is to cross the channel→cloud link, headers included; None before the channel.
        link_bits: what did, packets sent again included; None where no link was simulated.
        fidelity: metric name to value; None where it is infinite (nothing was changed) or undefined.
    """

    timings: dict[str, float] = {}
    bits: _Bits | None = None
    fidelity: dict[str, float | None] = {}
    link_bits: _Bits | None = None

    def with_timings(self, **milliseconds: float) -> Report:
        """The same report with further stages."""
        return msgspec.structs.replace(self, timings={**self.timings, **milliseconds})

    def header(self) -> dict[str, str]:
        """As an HTTP header."""
        text = msgspec.json.encode(self).decode()
        return {HEADER: text if text.isascii() else json.dumps(json.loads(text))}


def read_header(value: str | None) -> Report:
    """Read the header of a request; without one, an empty report.

    Raises:
        ReportError: it is not a report.
    """
    if value is not None and not value.isascii():
        raise ReportError(f"{HEADER}: only ASCII can travel in a header")
    try:
        return msgspec.json.decode(value, type=Report) if value else Report()
    except (msgspec.DecodeError, RecursionError) as error:
        raise ReportError(f"{HEADER}: {error}") from None
