"""Settings from ``FEATLINK_*`` environment variables; the defaults run all services on one machine."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.detector.config import ModelConfig, Profile


class ServiceSettings(BaseSettings):
    """Settings of every service."""

    model_config = SettingsConfigDict(env_prefix="FEATLINK_", extra="ignore")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(0, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    max_requests: int = Field(4, ge=1, description="requests in work at once")
    max_waiting: int = Field(128, ge=0, description="requests that upload or wait for their turn; more get 503")
    max_body_mb: int = Field(256, ge=1, description="largest request body in MiB")
    timeout_s: float = Field(300, gt=0, le=86400, description="how long a request may take until its answer begins")
    upload_silence_s: float = Field(15, gt=0, description="longest pause of an upload")
    upload_grace_s: float = Field(30, gt=0, description="time that an upload may be slower than 16 KiB/s")

    @property
    def max_body(self) -> int:
        """The body limit in bytes."""
        return self.max_body_mb << 20

    @property
    def max_held(self) -> int:
        """Bytes of all bodies whose requests are not answered yet."""
        return self.max_requests * self.max_body


class ModelSettings(BaseSettings):
    """Which network; edge and cloud must agree on model and weights."""

    model_config = SettingsConfigDict(env_prefix="FEATLINK_", extra="ignore")

    model: str = Field("maskrcnn_resnet50_fpn", description="torchvision builder")
    weights: str = Field("starter", description="'starter' (bundled), 'coco' (official, downloaded), or a path")
    profile: Profile = Field("fast", description="numerics: 'fast', or 'exact': bit-identical to torchvision")
    min_size: int | None = Field(None, ge=32, le=4096, description="shorter side of the network input, pixels")
    max_size: int | None = Field(None, ge=32, le=4096, description="longer side of the network input at most, pixels")
    score_threshold: float | None = Field(None, ge=0, le=1, description="lowest score that is reported")
    proposals: int | None = Field(None, ge=1, le=4000, description="regions the RPN passes on; default 1000")
    max_detections: int | None = Field(None, ge=1, le=1000, description="detections per image; default 100")
    threads: int = Field(0, ge=0, description="CPU threads of one inference; 0 takes all")

    def config(self) -> ModelConfig:
        """These settings as the model layer takes them."""
        return ModelConfig(**{name: getattr(self, name) for name in ModelSettings.model_fields})
