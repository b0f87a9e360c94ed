"""The cloud's settings."""

from __future__ import annotations

from pydantic import Field

from featlink.shared.service.settings import ModelSettings, ServiceSettings


class CloudSettings(ServiceSettings, ModelSettings):
    """``FEATLINK_*`` environment variables of the cloud."""

    port: int = Field(8003, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    database_url: str = Field(
        "sqlite:///featlink-runs.sqlite",
        description="where runs are kept: an SQLite file's absolute path, or an SQLAlchemy URL",
    )
    cache_mb: int = Field(256, ge=0, description="clean pyramids kept for measuring distorted images, MiB")
