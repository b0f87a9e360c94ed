"""The playground's state, as in its URL, and the same request as curl, command line and Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from featlink.shared.conditions.language import Condition, parse
from featlink.shared.errors import ConditionError

Side = Literal["a", "b"]
View = Literal["detections", "difference"]

FIRST = "000000000014.jpg"
STARTS = (
    ("feature: bottleneck(step=8) | entropy @ bit_depth=10", "image: vvenc(qp=41)"),
    ("feature: vvenc(qp=42)", "image: vvenc(qp=42)"),
)
"""What is compared where the address says nothing: learned features and coded pixels at about the same bits. The last
is for a deployment that refuses the first because it has no bottleneck for its weights."""

PICTURE = "picture.jpg"


@dataclass(frozen=True)
class State:
    """A comparison.

    Attributes:
        picture: a bundled scene's file name, or an uploaded picture's key.
        a: the condition of side A.
        b: the condition of side B; None where A stands alone.
        link: the link's settings that are not its defaults; both sides' are sent over it.
        view: what is drawn of the sides.
        planes: the level whose planes are shown; nothing for none.
    """

    picture: str = FIRST
    a: Condition = field(default_factory=lambda: parse(STARTS[0][0]))
    b: Condition | None = field(default_factory=lambda: parse(STARTS[0][1]))
    link: Mapping[str, Any] = field(default_factory=dict)
    view: View = "detections"
    planes: str = ""

    @property
    def sides(self) -> dict[Side, Condition]:
        """The conditions by side, A first."""
        sides: dict[Side, Condition] = {"a": self.a}
        if self.b is not None:
            sides["b"] = self.b
        return sides

    def with_side(self, side: Side, condition: Condition | None) -> State:
        """The same with another condition on one side; None removes it, and of A, B takes the place."""
        if side == "b":
            return replace(self, b=condition)
        return replace(self, a=condition or self.b or self.a, b=self.b if condition else None)

    def link_text(self) -> str:
        """The link's JSON form; every setting not named is the simulated link's default."""
        return json.dumps(dict(self.link), separators=(",", ":"))

    def query(self) -> str:
        """The address's query, from which :func:`restore` makes the state again."""
        fields = {"picture": self.picture}
        fields |= {side: str(condition) for side, condition in self.sides.items()}
        if self.link:
            fields["link"] = self.link_text()
        if self.view != "detections":
            fields["view"] = self.view
        if self.planes:
            fields["planes"] = self.planes
        return urlencode(fields)


def restore(query: Mapping[str, str]) -> tuple[State, list[str]]:
    """The state an address holds, and what in it could not be read, a line each.

    An address with ``a`` alone shows one side. ``condition`` and ``send`` are how earlier versions named the sides.

    Example:
        >>> state, wrong = restore({"a": "vvenc(qp=40)", "b": "image: jpeg(quality=9)", "view": "x-ray"})
        >>> str(state.a), str(state.b), wrong
        ('feature: vvenc(qp=40)', 'image: jpeg(quality=9)', ["The address has no view 'x-ray'."])
    """
    state, wrong = State(), []
    if picture := query.get("picture"):
        state = replace(state, picture=picture)
    sides: dict[str, Condition] = {}
    for name in ("a", "b", "condition"):
        if text := query.get(name):
            try:
                sides[name] = parse(text)
            except ConditionError as error:
                wrong.append(f"The address's condition: {error}")
    if "condition" in sides:
        sides |= _sides_of_earlier(sides["condition"], query.get("send", ""))
    if "a" in sides:
        state = replace(state, a=sides["a"], b=sides.get("b"))
    if text := query.get("link"):
        try:
            link = json.loads(text)
        except (ValueError, RecursionError):
            link = None
        if isinstance(link, dict):
            state = replace(state, link=link)
        else:
            wrong.append("The address's link is not a JSON object.")
    for name in get_args(View):
        if query.get("view") == name:
            state = replace(state, view=name)
    if (view := query.get("view")) and view != state.view:
        wrong.append(f"The address has no view {view!r}.")
    return replace(state, planes=query.get("planes", "")), wrong


def _sides_of_earlier(condition: Condition, send: str) -> dict[str, Condition]:
    domains = {"feature": ("feature",), "image": ("image",), "both": ("feature", "image")}.get(
        send, (condition.domain,)
    )
    return {side: condition.model_copy(update={"domain": domain}) for side, domain in zip("ab", domains, strict=False)}


def curl(state: State, edge: str, picture: str) -> str:
    """One line of shell for each side.

    Args:
        state: what to ask for.
        edge: base URL of the edge.
        picture: where the picture can be had.
    """
    lines = [f"curl -s -o {PICTURE} {shlex.quote(picture)}"]
    for condition in state.sides.values():
        url = f"{edge}/v1/infer?{urlencode({'condition': str(condition), 'link': state.link_text()})}"
        lines.append(f"curl -s --data-binary @{PICTURE} {shlex.quote(url)}")
    return "\n".join(lines)


def command(state: State, edge: str, picture: str) -> str:
    """``featlink infer`` for each side."""
    lines = [f"curl -s -o {PICTURE} {shlex.quote(picture)}"]
    for side, condition in state.sides.items():
        line = f"featlink infer {PICTURE} --edge {shlex.quote(edge)} --condition {shlex.quote(str(condition))}"
        lines.append(f"{line} --link {shlex.quote(state.link_text())} --compare {side}.png")
    return "\n".join(lines)


def python(state: State, edge: str, cloud: str, picture: str) -> str:
    """Lines of Python that ask the running deployment."""
    conditions = [str(condition) for condition in state.sides.values()]
    return "\n".join(
        [
            "import httpx",
            "from featlink.client import Client",
            "",
            f"picture = httpx.get({json.dumps(picture)}).content",
            f"with Client({json.dumps(edge)}, {json.dumps(cloud)}) as client:",
            f"    for condition in {json.dumps(conditions)}:",
            f"        result = client.infer(picture, condition=condition, link={state.link_text()!r})",
            "        print(condition, result.bits, result.fidelity, len(result.detections))",
        ]
    )
