"""The channel's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from featlink.channel.bitstream_archive import check_folder
from featlink.channel.codecs.base import ProgramSettings, Tools
from featlink.channel.link import Link
from featlink.shared.errors import StorageError
from featlink.shared.service.settings import ServiceSettings


class ChannelSettings(ProgramSettings, ServiceSettings):
    """``FEATLINK_*`` environment variables of the channel."""

    port: int = Field(8002, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    cloud_url: str = Field("http://127.0.0.1:8003", description="where the cloud listens")
    condition: str = Field("identity", description="the default condition's chain, text or JSON form")
    link: Annotated[Link, NoDecode] = Field(Link(), description="the simulated link, JSON as of PUT /v1/link")
    state: Path | None = Field(None, description="file that keeps a link and condition that were set over a restart")
    max_wait_s: float = Field(60, gt=0, le=3600, description="longest time that a link with wait makes a request wait")
    keep_bitstreams: Path | None = Field(None, description="folder in which codecs' bitstreams of stills are kept")
    max_streams: int = Field(16, ge=1, description="streams that may be open at once; more get 503")
    stream_idle_s: float = Field(60, gt=0, le=86400, description="a stream without a frame for so long is closed")
    stream_wait_s: float = Field(1, ge=0, le=60, description="how long a frame of a stream waits for one before it")
    stream_mb: int = Field(256, ge=0, description="frames of streams kept until the cloud has answered them, MiB")

    @field_validator("link", mode="before")
    @classmethod
    def _read_link(cls, given: object) -> object:
        return Link.model_validate_json(given) if isinstance(given, str) else given

    @field_validator("keep_bitstreams")
    @classmethod
    def _can_be_written(cls, folder: Path | None) -> Path | None:
        if folder is not None:
            try:
                check_folder(folder)
            except StorageError as error:
                raise ValueError(str(error)) from None
        return folder

    def tools(self) -> Tools:
        """The codecs' programs; one may take as long as the whole answer."""
        return Tools(self.timeout_s, ffmpeg=self.ffmpeg, vvencapp=self.vvencapp, vvdecapp=self.vvdecapp)
