"""Where the time goes: edge → link → cloud, each stage beginning where the one before it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

PLACES = {
    "edge": ("edge", "decode", "backbone", "reduce", "serialize", "distort", "compress"),
    "link": ("transfer", "hops"),
    "cloud": ("cloud", "decompress", "restore", "heads", "encode"),
}
"""Stages in the order of a picture's way; the channel does the sender's coding and the receiver's decoding."""

_WORDS = {
    "edge": "computing",
    "cloud": "computing",
    "hops": "between services",
    "decode": "read the picture",
    "serialize": "serialise",
    "distort": "map and distort",
    "compress": "encode",
    "decompress": "decode",
    "encode": "masks to RLE",
}
_MEASURING = {"fidelity", "total"}


@dataclass(frozen=True)
class Bar:
    """A stage.

    Attributes:
        place: ``edge``, ``link`` or ``cloud``.
        name: for people.
        start, ms: milliseconds.
    """

    place: str
    name: str
    start: float
    ms: float


def bars(timings: Mapping[str, float]) -> list[Bar]:
    """Stages one after the other, without measuring and what took no time.

    Args:
        timings: milliseconds by stage, as services report them.

    Example:
        >>> [(bar.place, bar.start) for bar in bars({"heads": 5, "backbone": 10, "transfer": 2, "total": 20})]
        [('edge', 0.0), ('link', 10.0), ('cloud', 12.0)]
    """
    place = {stage: where for where, stages in PLACES.items() for stage in stages}
    order = [stage for stages in PLACES.values() for stage in stages]
    known = [stage for stage in order if timings.get(stage)]
    unknown = [stage for stage in timings if stage not in place and stage not in _MEASURING]
    found, at = [], 0.0
    for stage in [*known, *unknown]:
        found.append(Bar(place.get(stage, "cloud"), _WORDS.get(stage, stage), at, float(timings[stage])))
        at += float(timings[stage])
    return found


def html(titled: Mapping[str, Mapping[str, float]]) -> str:
    """Waterfalls on one scale, as HTML.

    Args:
        titled: timings by title.
    """
    found = {title: bars(timings) for title, timings in titled.items()}
    most = max((bar.start + bar.ms for rows in found.values() for bar in rows), default=0) or 1
    parts = []
    for title, rows in found.items():
        whole = sum(bar.ms for bar in rows)
        parts.append(f'<table class="waterfall"><caption>{escape(title)}: {whole:,.0f} ms</caption><tbody>')
        for bar in rows:
            left, width = 100 * bar.start / most, max(0.4, 100 * bar.ms / most)
            parts.append(
                f'<tr><th scope="row"><span class="place {bar.place}">{bar.place}</span> {escape(bar.name)}</th>'
                f'<td class="track"><span class="bar {bar.place}" style="margin-left:{left:.2f}%;width:{width:.2f}%">'
                f'</span></td><td class="number">{bar.ms:,.1f} ms</td></tr>'
            )
        parts.append("</tbody></table>")
    return "".join(parts)
