"""The same request outside the page: curl, the command line, Python."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import urlencode

from featlink.page.play.state import State
from featlink.shared.conditions.language import Domain

PICTURE = "picture.jpg"


def parameters(state: State, domain: Domain) -> dict[str, str]:
    """The query of ``POST /v1/infer``."""
    return {"condition": state.condition_of(domain), "link": state.link_text()}


def curl(state: State, edge: str, picture: str) -> str:
    """One line of shell for each domain.

    Args:
        state: what to ask for.
        edge: base URL of the edge.
        picture: where the picture can be had.
    """
    lines = [f"curl -s -o {PICTURE} {shlex.quote(picture)}"]
    for domain in state.domains:
        url = f"{edge}/v1/infer?{urlencode(parameters(state, domain))}"
        lines.append(f"curl -s --data-binary @{PICTURE} {shlex.quote(url)}")
    return "\n".join(lines)


def command(state: State, edge: str, picture: str) -> str:
    """``featlink infer`` for each domain."""
    lines = [f"curl -s -o {PICTURE} {shlex.quote(picture)}"]
    for domain in state.domains:
        line = (
            f"featlink infer {PICTURE} --edge {shlex.quote(edge)} --condition {shlex.quote(state.condition_of(domain))}"
        )
        lines.append(f"{line} --link {shlex.quote(state.link_text())} --compare {domain}.png")
    return "\n".join(lines)


def python(state: State, edge: str, cloud: str, picture: str) -> str:
    """Lines of Python that ask the running deployment."""
    conditions: list[Any] = [state.condition_of(domain) for domain in state.domains]
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
