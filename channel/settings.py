"""The channel's settings."""

from __future__ import annotations

from pydantic import Field

from shared.service.settings import ServiceSettings


class ChannelSettings(ServiceSettings):
    """``FEATLINK_*`` environment variables of the channel."""

    port: int = Field(8002, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    cloud_url: str = Field("http://127.0.0.1:8003", description="where the cloud listens")
    condition: str = Field("identity", description="the default condition's chain, text or JSON form")
