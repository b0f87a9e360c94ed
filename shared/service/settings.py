"""Settings from ``FEATLINK_*`` environment variables; the defaults run all services on one machine."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.detector.config import ModelConfig, Profile


class ServiceSettings(BaseSettings):
    """Settings of every service."""

    model_config = SettingsConfigDict(env_prefix="FEATLINK_", env_ignore_empty=True, extra="ignore")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(0, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    address: str = Field("", description="where people reach the service, for its log to say")
    otlp_endpoint: str = Field("", description="base URL of an OpenTelemetry collector that gets spans (OTLP, HTTP)")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    max_requests: int = Field(4, ge=1, description="requests in work or waiting; further ones get 503")
    max_body_mb: int = Field(256, ge=1, description="largest request body in MiB")
    timeout_s: float = Field(300, gt=0, description="how long to wait for the next service's answer")

    @property
    def max_body(self) -> int:
        """The body limit in bytes."""
        return self.max_body_mb << 20


class ModelSettings(BaseSettings):
    """Which network; edge and cloud must agree on model and weights."""

    model_config = SettingsConfigDict(env_prefix="FEATLINK_", env_ignore_empty=True, extra="ignore")

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
