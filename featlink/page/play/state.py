"""What the playground shows, as the address bar holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlencode

from featlink.shared.conditions.language import Condition, Domain, parse
from featlink.shared.errors import ConditionError
from featlink.shared.models.fpn import FPN

Send = Literal["feature", "image", "both"]
SENDS: tuple[Send, ...] = ("feature", "image", "both")
FIRST = "000000000009.jpg"
_START = "quantize(bits=3)"


@dataclass(frozen=True)
class State:
    """A setting of the playground.

    Attributes:
        picture: a bundled scene's file name, or an uploaded picture's key.
        send: what crosses the link; ``both`` shows one beside the other.
        condition: its chain and options; the domain is that of ``send``.
        link: the link's settings that are not its defaults.
        planes: the level whose planes are shown; nothing for none.
    """

    picture: str = FIRST
    send: Send = "feature"
    condition: Condition = field(default_factory=lambda: parse(_START))
    link: Mapping[str, Any] = field(default_factory=dict)
    planes: str = ""

    @property
    def domains(self) -> tuple[Domain, ...]:
        """What is sent, in the order it is shown."""
        return ("feature", "image") if self.send == "both" else (self.send,)

    def text(self) -> str:
        """The condition without its domain.

        Example:
            >>> State().text()
            'quantize(bits=3)'
        """
        return str(self.condition).partition(":")[2].strip()

    def condition_of(self, domain: Domain) -> str:
        """The condition's text in one domain."""
        return f"{domain}: {self.text()}"

    def link_text(self) -> str:
        """The link's JSON form; every setting not named is the simulated link's default."""
        return json.dumps(dict(self.link), separators=(",", ":"))

    def query(self) -> str:
        """The address's query, from which :func:`restore` makes the state again."""
        fields = {"picture": self.picture, "send": self.send, "condition": self.text()}
        if self.link:
            fields["link"] = self.link_text()
        if self.planes:
            fields["planes"] = self.planes
        return urlencode(fields)


def restore(query: Mapping[str, str]) -> tuple[State, list[str]]:
    """The state an address holds, and what in it could not be read, a line each.

    Example:
        >>> state, wrong = restore({"condition": "vvenc(qp=40)", "send": "image", "planes": "p9"})
        >>> state.condition_of("image"), wrong
        ('image: vvenc(qp=40)', ["The address names no level 'p9'."])
    """
    state, wrong = State(), []
    if picture := query.get("picture"):
        state = replace(state, picture=picture)
    if text := query.get("condition"):
        try:
            condition = parse(text)
            state = replace(state, condition=condition.model_copy(update={"domain": "feature"}), send=condition.domain)
        except ConditionError as error:
            wrong.append(f"The address's condition: {error}")
    if send := query.get("send"):
        if send in SENDS:
            state = replace(state, send=send)
        else:
            wrong.append(f"The address cannot send {send!r}.")
    if text := query.get("link"):
        try:
            link = json.loads(text)
        except (ValueError, RecursionError):
            link = None
        if isinstance(link, dict):
            state = replace(state, link=link)
        else:
            wrong.append("The address's link is not a JSON object.")
    if level := query.get("planes"):
        if level in FPN.names:
            state = replace(state, planes=level)
        else:
            wrong.append(f"The address names no level {level!r}.")
    return state, wrong
