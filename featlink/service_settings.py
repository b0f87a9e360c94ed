"""The settings of services that are started here."""

from __future__ import annotations

from pathlib import Path

from featlink.shared.models.config import ModelConfig


def service_settings(config: ModelConfig, database: Path, keep_bitstreams: Path | None = None) -> dict[str, str]:
    """``FEATLINK_*`` settings, without the prefix; services take what is not set here from the environment.

    Args:
        config: the network of edge and cloud.
        database: the SQLite file in which the cloud keeps its runs.
        keep_bitstreams: the folder in which the channel keeps codecs' bitstreams; None keeps none.
    """
    settings = {
        **vars(config),
        "database_url": str(database.resolve()),
        "keep_bitstreams": keep_bitstreams and keep_bitstreams.resolve(),
    }
    return {name: str(value) for name, value in settings.items() if value is not None}
