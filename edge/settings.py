"""The edge's settings."""

from __future__ import annotations

from pydantic import Field

from featlink.shared.service.settings import ModelSettings, ServiceSettings


class EdgeSettings(ServiceSettings, ModelSettings):
    """``FEATLINK_*`` environment variables of the edge."""

    port: int = Field(8001, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    max_picture_mb: int = Field(32, ge=1, description="largest picture file in MiB")
    max_pixels: int = Field(50_000_000, ge=1, description="largest picture in pixels")
    channel_url: str = Field("http://127.0.0.1:8002", description="where the channel listens")
    send_p6: bool = Field(True, description="send p6 too (the paper does); the cloud can rebuild it from p5")
    cache_mb: int = Field(256, ge=0, description="pyramids kept for sweeps of conditions over one image, MiB")

    @property
    def max_body(self) -> int:
        """The body limit in bytes: only pictures come; ``max_body_mb`` is for the frames between services."""
        return self.max_picture_mb << 20
