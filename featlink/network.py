"""Check which network is asked for, on the command line, in Python or by settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.registry import check, is_file


def checked_config(**given: Any) -> ModelConfig:
    """The network's settings, with an absolute path of its weights; what is not given comes from ``FEATLINK_*``.

    Raises:
        ModelError: a value is not allowed, in one line.
    """
    from featlink.shared.service.settings import ModelSettings, slip, wrong_settings

    try:
        config = ModelSettings(**given).but()
    except ValidationError as error:
        raise ModelError(wrong_settings(error, given)) from None
    if wrong := slip(os.environ, known_settings()):
        raise ModelError(wrong)
    check(config.model)
    # Services and workers may run in another folder.
    if config.weights not in ("starter", "coco"):
        config = config.but(weights=_absolute(config.weights))
    if is_file(config.model):
        path, _, function = config.model.rpartition(":")
        config = config.but(model=f"{_absolute(path)}:{function}")
    return config


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def known_settings() -> set[str]:
    """Fields of every service's settings."""
    from featlink.channel.settings import ChannelSettings
    from featlink.cloud.settings import CloudSettings
    from featlink.edge.settings import EdgeSettings

    return {*EdgeSettings.model_fields, *ChannelSettings.model_fields, *CloudSettings.model_fields}
