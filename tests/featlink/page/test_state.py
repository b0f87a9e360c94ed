"""An address holds the whole state, and the lines to copy ask for the same."""

from __future__ import annotations

import shlex
from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from featlink.page import state as lines
from featlink.page.state import State, restore
from featlink.shared.conditions.language import parse

A = parse("gaussian_blur(sigma=1.5, window=5) | vvenc(qp=40) @ packing=stacked, seed=3")
B = parse("image: jpeg(quality=7)")
STATE = State("000000000009.jpg", A, B, {"rate_mbps": 2.5, "on_loss": "erase"}, "difference", "p4")


def test_an_address_restores_the_state() -> None:
    assert restore(dict(parse_qsl(STATE.query()))) == (STATE, [])
    assert restore(dict(parse_qsl(State().query()))) == (State(), [])
    assert restore({}) == (State(), [])
    alone = replace(STATE, b=None)
    assert restore(dict(parse_qsl(alone.query()))) == (alone, [])


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"a": "quantize(bits=4"}, "cannot read step"),
        ({"view": "smell"}, "no view 'smell'"),
        ({"link": "[1]"}, "not a JSON object"),
        ({"link": "{" * 5000}, "not a JSON object"),
    ],
)
def test_what_cannot_be_read_is_told_and_left_out(query: dict[str, str], told: str) -> None:
    state, wrong = restore(query)
    assert state == State()
    assert len(wrong) == 1
    assert told in wrong[0]


def test_addresses_of_earlier_versions_hold() -> None:
    def sides(**query: str) -> list[str]:
        return [str(condition) for condition in restore(query)[0].sides.values()]

    assert sides(condition="image: jpeg(quality=3)") == ["image: jpeg(quality=3)"]
    assert sides(condition="jpeg(quality=3)", send="image") == ["image: jpeg(quality=3)"]
    assert sides(condition="jpeg(quality=3)", send="both") == ["feature: jpeg(quality=3)", "image: jpeg(quality=3)"]


def test_a_side_that_is_removed_leaves_the_other() -> None:
    assert list(STATE.with_side("b", None).sides.values()) == [A]
    assert list(STATE.with_side("a", None).sides.values()) == [B]


def test_curl_asks_for_what_the_page_asks_for() -> None:
    fetch, *sent = lines.curl(STATE, "http://edge:1", "http://page:2/scenes/a b.jpg").splitlines()
    assert shlex.split(fetch)[-1] == "http://page:2/scenes/a b.jpg"
    for line, condition in zip(sent, (A, B), strict=True):
        url = urlsplit(shlex.split(line)[-1])
        assert f"{url.scheme}://{url.netloc}{url.path}" == "http://edge:1/v1/infer"
        assert {name: one for name, [one] in parse_qs(url.query).items()} == {
            "condition": str(condition),
            "link": STATE.link_text(),
        }


def test_the_command_line_and_python_name_the_same_condition() -> None:
    state = replace(STATE, a=B, b=None)
    words = shlex.split(lines.command(state, "http://edge:1", "x").splitlines()[1])
    assert words[words.index("--condition") + 1] == str(B)
    assert words[words.index("--link") + 1] == state.link_text()
    program = lines.python(state, "http://edge:1", "http://cloud:3", "http://page:2/scenes/1.jpg")
    compile(program, "copied", "exec")
    assert str(B) in program
