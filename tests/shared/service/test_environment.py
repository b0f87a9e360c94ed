"""A setting takes effect or is refused by its variable's name."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from featlink.channel.settings import ChannelSettings
from featlink.cloud.settings import CloudSettings
from featlink.edge.settings import EdgeSettings
from featlink.network import checked_config, known_settings
from featlink.shared.errors import ModelError
from featlink.shared.service.settings import ServiceSettings, slip, wrong_settings

ALL: list[type[ServiceSettings]] = [EdgeSettings, ChannelSettings, CloudSettings]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in known_settings():
        monkeypatch.delenv(f"FEATLINK_{name.upper()}", raising=False)


@pytest.mark.parametrize("settings", ALL)
def test_an_empty_variable_counts_as_unset(settings: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings()
    for name in settings.model_fields:
        monkeypatch.setenv(f"FEATLINK_{name.upper()}", "")
    assert settings() == before


def test_a_wrong_value_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLINK_PORT", "tcp://10.0.0.1:8001")
    monkeypatch.setenv("FEATLINK_LOG_LEVEL", "loud")
    with pytest.raises(ValidationError) as caught:
        ServiceSettings()
    told = wrong_settings(caught.value)
    assert "FEATLINK_PORT: Input should be a valid integer" in told
    assert "Kubernetes" in told
    assert "FEATLINK_LOG_LEVEL: String should match" in told


def test_the_command_line_names_what_was_given_there_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLINK_MIN_SIZE", "7")
    with pytest.raises(ModelError, match=r"^FEATLINK_MIN_SIZE: Input should be greater than or equal to 32$"):
        checked_config()
    with pytest.raises(ModelError, match=r"^min_size: Input should be greater"):
        checked_config(min_size=8)
    monkeypatch.setenv("FEATLINK_MIN_SIZE", "")
    assert checked_config().min_size is None
    monkeypatch.setenv("FEATLINK_WEIGTHS", "coco")
    with pytest.raises(ModelError, match=r"FEATLINK_WEIGTHS is no setting; did you mean FEATLINK_WEIGHTS"):
        checked_config()


def test_no_setting_is_taken_for_a_slip_of_another() -> None:
    for settings in ALL:
        for name in known_settings():
            assert slip({f"FEATLINK_{name.upper()}": "x"}, settings.model_fields) is None, (settings, name)


@pytest.mark.parametrize(
    "name",
    [
        "FEATLINK_SERVICE_HOST",
        "FEATLINK_PORT_8001_TCP",
        "FEATLINK_EDGE_PORT",
        "FEATLINK_BIND",
        "FEATLINK_FITTED",
        "FEAT",
    ],
)
def test_what_others_set_is_passed_over(name: str) -> None:
    assert slip({name: "x"}, EdgeSettings.model_fields) is None


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("FEATLINK_MAX_REQUEST", "FEATLINK_MAX_REQUEST is no setting; did you mean FEATLINK_MAX_REQUESTS?"),
        ("FEATLINK_PORT", "FEATLINK_PORT: Input should be a valid integer"),
    ],
)
def test_a_service_stops_with_one_line(variable: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "featlink.channel"],
        env={variable: "x", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"channel: wrong settings: {message}")
    assert done.stderr.count("\n") == 1
