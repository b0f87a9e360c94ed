"""Settings come from the environment, and wrong ones are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from featlink.channel.settings import ChannelSettings
from featlink.cloud.settings import CloudSettings
from featlink.edge.settings import EdgeSettings
from featlink.shared.models.config import ModelConfig
from featlink.shared.service.settings import ModelSettings, ServiceSettings

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
    assert ModelSettings().config() == ModelConfig(weights="w.pth", profile="exact", min_size=320, score_threshold=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "70000"), ("PORT", "http"), ("MAX_REQUESTS", "0"), ("LOG_LEVEL", "loud"), ("TIMEOUT_S", "0")],
)
def test_wrong_settings_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FEATLINK_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        ServiceSettings()
