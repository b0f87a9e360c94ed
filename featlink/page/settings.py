"""The page's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PageSettings(BaseSettings):
    """``FEATLINK_*`` environment variables of the page."""

    model_config = SettingsConfigDict(env_prefix="FEATLINK_", extra="ignore")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    edge_url: str = Field("http://127.0.0.1:8001", description="where the edge listens")
    channel_url: str = Field("http://127.0.0.1:8002", description="where the channel listens")
    cloud_url: str = Field("http://127.0.0.1:8003", description="where the cloud listens")
    public_edge_url: str | None = Field(None, description="the edge's address in copied commands; default: edge_url")
    public_cloud_url: str | None = Field(None, description="the cloud's address in copied lines; default: cloud_url")
    sweeps: Path = Field(Path("out"), description="folder in which finished sweeps are looked for")
    timeout_s: float = Field(300, gt=0, description="how long to wait for a service's answer")
    max_picture_mb: int = Field(32, ge=1, description="largest picture in MiB")

    @property
    def shown_edge(self) -> str:
        """The edge's address for people."""
        return self.public_edge_url or self.edge_url

    @property
    def shown_cloud(self) -> str:
        """The cloud's address for people."""
        return self.public_cloud_url or self.cloud_url
