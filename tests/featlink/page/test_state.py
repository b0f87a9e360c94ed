"""An address holds the whole state, and the lines to copy ask for the same."""

from __future__ import annotations

import shlex
from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from featlink.page.play import lines
from featlink.page.play.state import State, restore
from featlink.shared.conditions.language import parse

CONDITION = parse("gaussian_blur(sigma=1.5, window=5) | vvenc(qp=40) @ packing=stacked, seed=3")
STATE = State("000000000009.jpg", "both", CONDITION, {"rate_mbps": 2.5, "on_loss": "erase"}, "p4")


def test_an_address_restores_the_state() -> None:
    assert restore(dict(parse_qsl(STATE.query()))) == (STATE, [])
    assert restore(dict(parse_qsl(State().query()))) == (State(), [])
    assert restore({}) == (State(), [])


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"condition": "quantize(bits=4"}, "cannot read step"),
        ({"send": "smell"}, "cannot send 'smell'"),
        ({"link": "[1]"}, "not a JSON object"),
        ({"link": "{" * 5000}, "not a JSON object"),
        ({"planes": "p7"}, "no level 'p7'"),
    ],
)
def test_what_cannot_be_read_is_told_and_left_out(query: dict[str, str], told: str) -> None:
    state, wrong = restore(query)
    assert state == State()
    assert len(wrong) == 1
    assert told in wrong[0]


def test_a_conditions_domain_is_what_is_sent() -> None:
    assert restore({"condition": "image: jpeg(quality=3)"})[0].domains == ("image",)
    assert restore({"condition": "image: jpeg(quality=3)", "send": "both"})[0].domains == ("feature", "image")


def test_curl_asks_for_what_the_page_asks_for() -> None:
    fetch, *sent = lines.curl(STATE, "http://edge:1", "http://page:2/scenes/a b.jpg").splitlines()
    assert shlex.split(fetch)[-1] == "http://page:2/scenes/a b.jpg"
    for line, domain in zip(sent, STATE.domains, strict=True):
        url = urlsplit(shlex.split(line)[-1])
        assert f"{url.scheme}://{url.netloc}{url.path}" == "http://edge:1/v1/infer"
        assert {name: one for name, [one] in parse_qs(url.query).items()} == lines.parameters(STATE, domain)


def test_the_command_line_and_python_name_the_same_condition() -> None:
    state = replace(STATE, send="image")
    words = shlex.split(lines.command(state, "http://edge:1", "x").splitlines()[1])
    assert words[words.index("--condition") + 1] == state.condition_of("image")
    assert words[words.index("--link") + 1] == state.link_text()
    program = lines.python(state, "http://edge:1", "http://cloud:3", "http://page:2/scenes/1.jpg")
    compile(program, "copied", "exec")
    assert state.condition_of("image") in program
