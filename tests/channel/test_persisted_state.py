"""What was set over HTTP holds over a restart, until the settings change."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from featlink.channel.app import create_app
from featlink.channel.link import Link
from featlink.channel.persisted_state import PersistedState
from featlink.channel.settings import ChannelSettings
from featlink.shared.conditions.language import parse
from featlink.shared.errors import StorageError
from featlink.shared.service.settings import wrong_settings

PLAIN = parse("identity")
SLOW = Link(rate_mbps=5, rtt_ms=40)


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    first = PersistedState(path, Link(), PLAIN)
    first.set_link(SLOW)
    first.set_condition(parse("image: jpeg(quality=40)"))
    again = PersistedState(path, Link(), PLAIN)
    assert (again.link, again.condition) == (SLOW, first.condition)


def test_new_settings_hold_against_what_was_set_before_them(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    PersistedState(path, Link(), PLAIN).set_link(SLOW)
    assert PersistedState(path, Link(rtt_ms=7), PLAIN).link == Link(rtt_ms=7)
    assert PersistedState(path, Link(), parse("quantize:bits=4")).link == Link()
    assert PersistedState(path, Link(), PLAIN).link == SLOW


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"configured": 1}', b"\xff"])
def test_an_unreadable_file_is_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert PersistedState(tmp_path / "state.json", SLOW, PLAIN).link == SLOW


def test_what_cannot_be_kept_is_not_set(tmp_path: Path) -> None:
    kept = PersistedState(tmp_path / "none" / "state.json", Link(), PLAIN)
    with pytest.raises(StorageError, match=r"cannot keep it in .*No such file"):
        kept.set_link(SLOW)
    assert kept.link == Link()


def test_over_http_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLINK_LINK", '{"rate_mbps": 20}')
    monkeypatch.setenv("FEATLINK_STATE", str(tmp_path / "state.json"))
    client = TestClient(create_app(ChannelSettings()))
    assert client.get("/v1/link").json()["rate_mbps"] == 20
    assert client.put("/v1/link", json={"rtt_ms": 30}).status_code == 200
    assert client.put("/v1/condition", json="quantize:bits=2").status_code == 200
    again = TestClient(create_app(ChannelSettings()))
    assert again.get("/v1/link").json() == {**Link(rtt_ms=30).model_dump()}
    assert again.get("/v1/condition").json()["text"] == "feature: quantize(bits=2)"
    monkeypatch.setenv("FEATLINK_STATE", "/dev/null/state.json")
    answer = TestClient(create_app(ChannelSettings())).put("/v1/link", json={"rtt_ms": 1})
    assert answer.status_code == 507


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "FEATLINK_LINK: "), ('{"rate": 3}', "FEATLINK_LINK: rate: Extra"), ('{"loss": 2}', "FEATLINK_LINK: loss: ")],
)
def test_a_wrong_link_is_told_by_its_variable(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLINK_LINK", text)
    with pytest.raises(ValidationError) as caught:
        ChannelSettings()
    assert wrong_settings(caught.value).startswith(message)
