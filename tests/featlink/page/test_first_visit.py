"""What the playground opens on where a deployment has no bottleneck, in NiceGUI's simulation of a browser."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from nicegui import ElementFilter, ui
from nicegui.testing import user_simulation
from waiting import LONG

from featlink.channel.link import Link
from featlink.client import Client
from featlink.errors import RefusalError
from featlink.page import playground
from featlink.page.context import Context, PageSettings
from featlink.page.state import STARTS
from featlink.shared.conditions import registry
from featlink.shared.result import InferenceResult

REFUSAL = "there is no bottleneck for these weights"
RESULT = InferenceResult(image_id=None, detections=[], categories={}, bits=8000, bpp=0.1, fidelity={}, timings={})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Conditions that are asked of a deployment that refuses every bottleneck."""
    conditions: list[str] = []

    def infer(_: Client, picture: bytes, condition: str, **options: Any) -> InferenceResult:
        conditions.append(condition)
        if "bottleneck" in condition:
            raise RefusalError(REFUSAL, 400, "Invalid condition")
        return RESULT

    offered = {"schema": registry.schema(), "named": {}}
    monkeypatch.setattr(Client, "infer", infer)
    monkeypatch.setattr(Client, "catalogue", lambda _: offered)
    monkeypatch.setattr(Client, "link_schema", lambda _: Link.model_json_schema())
    monkeypatch.setattr(Client, "model", lambda _: {})
    return conditions


@pytest.fixture
def _modules() -> Iterator[None]:
    """The simulation forgets the modules of the pages that it has shown; other tests have classes of theirs."""
    loaded = dict(sys.modules)
    yield
    sys.modules.update(loaded)


def shown(address: str, text: str) -> str:
    """Open the playground and wait until it shows a text; its banner then."""

    async def main() -> str:
        async with user_simulation() as user:
            context = Context(PageSettings())
            playground.add_page(context)
            await user.open(address)
            await user.should_see(content=text, retries=10 * LONG)
            with user:
                banners = [one for one in ElementFilter(local_scope=False) if "banner" in one.classes]
                told = "".join(
                    label.text
                    for one in banners
                    if one.visible
                    for label in one.descendants()
                    if isinstance(label, ui.label)
                )
            context.close()
            return told

    return asyncio.run(main())


pytestmark = pytest.mark.usefixtures("_modules")


def test_without_a_bottleneck_the_first_visit_opens_on_what_there_is(asked: list[str]) -> None:
    assert shown("/", "At about equal bits") == ""
    assert set(asked[1:3]) == set(STARTS[0])
    assert set(asked[3:]) == set(STARTS[-1])


def test_a_bottleneck_that_the_address_asks_for_is_refused_in_words(asked: list[str]) -> None:
    condition = STARTS[0][0]
    assert shown(f"/?a={quote(condition)}", REFUSAL) == REFUSAL
    assert asked[1:] == [condition]
