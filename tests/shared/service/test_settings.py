"""Settings come from the environment, and wrong ones are refused by their variables' names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from featlink.channel.settings import ChannelSettings
from featlink.cloud.settings import CloudSettings
from featlink.edge.settings import EdgeSettings
from featlink.network import checked_config, known_settings
from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.shared.service.settings import ModelSettings, ServiceSettings, slip, wrong_settings

ALL = [EdgeSettings, ChannelSettings, CloudSettings]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in ALL:
        for name in settings.model_fields:
            monkeypatch.delenv(f"FEATLINK_{name.upper()}", raising=False)


def test_the_defaults_run_all_three_on_one_machine() -> None:
    edge, channel, cloud = EdgeSettings(), ChannelSettings(), CloudSettings()
    assert {settings.host for settings in (edge, channel, cloud)} == {"127.0.0.1"}
    assert edge.channel_url == f"http://{channel.host}:{channel.port}"
    assert channel.cloud_url == f"http://{cloud.host}:{cloud.port}"
    assert (edge.model, edge.weights, edge.profile) == (cloud.model, cloud.weights, cloud.profile)


def test_a_frame_of_the_largest_pyramid_fits() -> None:
    """torchvision resizes to at most 1333×1333; 256 channels of float32 at strides 4 to 64."""
    pyramid = sum(256 * 4 * (1344 // 2**k) ** 2 for k in range(2, 7))
    assert pyramid < ChannelSettings().max_body
    assert pyramid < CloudSettings().max_body


@pytest.mark.parametrize("settings", ALL)
def test_the_environment_counts(settings: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLINK_PORT", "9999")
    monkeypatch.setenv("FEATLINK_MAX_PICTURE_MB" if settings is EdgeSettings else "FEATLINK_MAX_BODY_MB", "3")
    monkeypatch.setenv("FEATLINK_OF_ANOTHER_SERVICE", "ignored")
    assert (settings().port, settings().max_body) == (9999, 3 << 20)


def test_model_settings_reach_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WEIGHTS": "w.pth", "PROFILE": "exact", "MIN_SIZE": "320", "SCORE_THRESHOLD": "0.5"}.items():
        monkeypatch.setenv(f"FEATLINK_{name}", value)
    assert ModelSettings().but() == ModelConfig(weights="w.pth", profile="exact", min_size=320, score_threshold=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "70000"), ("PORT", "http"), ("MAX_REQUESTS", "0"), ("LOG_LEVEL", "loud"), ("TIMEOUT_S", "0")],
)
def test_wrong_settings_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FEATLINK_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        ServiceSettings()


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
        "FEATLINK_TOKEN",
        "FEAT",
    ],
)
def test_what_others_set_is_passed_over(name: str) -> None:
    assert slip({name: "x"}, EdgeSettings.model_fields) is None


@pytest.mark.slow
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
    [line] = (done.stdout + done.stderr).splitlines()
    logged = json.loads(line)
    assert (logged["service"], logged["level"], logged["event"]) == ("channel", "error", "cannot start")
    assert logged["reason"].startswith(f"wrong settings: {message}")


def test_the_documentation_lists_every_setting_and_no_other() -> None:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "settings.md").read_text()
    listed = {
        name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`([A-Z_0-9]{4,})`", line)
    }
    assert listed == {name.upper() for name in known_settings()} | {"FITTED"}
