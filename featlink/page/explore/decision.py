"""The panel "Which should I send?": what ``featlink decide`` answers, with sliders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

from nicegui import ui

from featlink.deciding.decision import decide, plain
from featlink.deciding.query import DEFAULT_KEEP, make_wish
from featlink.page.catalogue import Control, Value
from featlink.page.fields import field
from featlink.page.latest import Latest
from featlink.page.play.waterfall import html as waterfall
from featlink.report.sweep import DOMAINS, Sweep, label
from featlink.shared.errors import FeatlinkError

_NAMES = {"feature": "features", "image": "pixels"}
_SPEED = "how many times as fast as the machine of the sweep"
ASKED = {
    "link (Mbit/s)": Control("rate", "the link's rate", "number", 20.0, low=0.1, high=10_000, logarithmic=True),
    "round trip (ms)": Control("rtt", "half of it is on the way to the cloud", "number", 20.0, low=0, high=400),
    "edge speed ×": Control("edge_speed", _SPEED, "number", 1.0, low=0.1, high=10, logarithmic=True),
    "cloud speed ×": Control("cloud_speed", _SPEED, "number", 1.0, low=0.1, high=100, logarithmic=True),
    "keep of AP (%)": Control(
        "keep", "share of the domain's clean AP that must be kept", "number", 100 * DEFAULT_KEEP, low=10, high=100
    ),
}
"""Arguments of :func:`featlink.deciding.query.make_wish` by the labels of their sliders."""


def answer(sweep: Sweep, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The decision, without the rates at which it changes, which take long to find.

    Args:
        sweep: a finished sweep.
        asked: arguments of :func:`featlink.deciding.query.make_wish`.

    Returns:
        What :func:`featlink.deciding.decision.plain` makes of it.

    Raises:
        CommandError: the sweep has no samples or no times, or something asked for is out of its range.
    """
    return plain(decide(sweep, make_wish(**asked), crossings=False))


def leading(told: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The best option of each domain, the best first."""
    found: dict[str, dict[str, Any]] = {}
    for option in told["options"]:
        found.setdefault(option["domain"], option)
    return found


def headline(told: Mapping[str, Any]) -> str:
    """The call and its margin, in a few words."""
    if told["call"] not in DOMAINS:
        return "Nothing keeps so much" if told["call"] == "nothing" else "Too close to call"
    best, *others = leading(told).values()
    text = f"Send {_NAMES[best['domain']]}"
    if not others or not others[0]["good_enough"]:
        return text
    saved = others[0]["ms"] - best["ms"]
    return f"{text}: {saved:,.0f} ms ({100 * saved / others[0]['ms']:.0f} %) sooner than {_NAMES[others[0]['domain']]}"


class Panel:
    """The answer for one sweep, given again whenever a slider has moved.

    Args:
        sweep: a finished sweep.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._asked: dict[str, Any] = {control.name: control.start for control in ASKED.values()}
        self._latest = Latest(self._tell)

    def build(self) -> None:
        """Make the elements and ask for the first answer."""
        ui.html("<h2>Which should I send?</h2>", sanitize=False)
        self._answer = ui.html("", sanitize=False).props('role="status"').classes("answer")
        for words, control in ASKED.items():
            field(replace(control, name=words), control.start, partial(self._set, control.name))
        self._times = ui.html("", sanitize=False).classes("times")
        self._latest.ask(dict(self._asked))

    def _set(self, name: str, value: Value) -> None:
        self._asked[name] = value
        self._latest.ask(dict(self._asked))

    async def _tell(self, asked: Mapping[str, Any]) -> None:
        try:
            told = await asyncio.to_thread(answer, self._sweep, asked)
        except FeatlinkError as error:
            self._answer.content, self._times.content = f"<p>{escape(str(error))}</p>", ""
            return
        overlapped = "<p>Stages of this sweep overlapped: its times include waiting.</p>" if told["overlapped"] else ""
        self._answer.content = f"<p><b>{headline(told)}</b></p><p>{escape(told['sentence'])}</p>{overlapped}"
        self._times.content = waterfall({self._title(one): _stages(one) for one in leading(told).values()})

    def _title(self, option: Mapping[str, Any]) -> str:
        name = f"{_NAMES[option['domain']].capitalize()}, {label(self._sweep.by_id[option['id']])}"
        return name if option["good_enough"] else f"{name}, which keeps too little"


def _stages(option: Mapping[str, Any]) -> dict[str, float]:
    stages = {"edge": "edge_ms", "transfer": "link_ms", "hops": "hops_ms", "cloud": "cloud_ms"}
    return {stage: option[key] for stage, key in stages.items()}
