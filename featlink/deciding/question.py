"""The question of a decision, in the units that people ask it in: one definition for command line and Python API."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, Field, model_validator

Policy = Literal["every", "newest"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
UNDER_WAY = 3
"""Frames without an answer that ``newest`` allows: one for each of edge, link and cloud."""
DEFAULT_KEEP = 0.95
"""Share of clean AP that is to be kept where neither a floor nor a deadline is named."""
MOST_FPS = 1000


class Question(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What :func:`featlink.decide` and ``featlink decide`` take beside folders; rtt, jitter and loss are a link's."""

    rate: float | None = Field(None, description="link rate in Mbit/s; or give a trace")
    trace: Path | None = Field(None, description="the link's rate over time: CSV of seconds and mbps, or Mahimahi")
    rtt: float = Field(0, description="round trip, ms")
    jitter: float = Field(0, description="standard deviation of the one-way delay, ms")
    loss: float = Field(0, description="share of packets that are lost and sent again, 0 to 0.99")
    erase: bool = Field(
        False, description="lost packets stay lost: choose among conditions measured with such a packet_loss of units"
    )
    burst: float = Field(1, ge=1, description="packets lost in a row on average, where they stay lost")
    edge_speed: float = Field(1, gt=0, description="how many times as fast the edge is as the sweep's machine")
    cloud_speed: float = Field(1, gt=0, description="how many times as fast the cloud is as the sweep's machine")
    floor: float | None = Field(None, ge=0, le=100, description="lowest acceptable AP, %")
    keep: float | None = Field(
        None, ge=0, le=1000, description="lowest acceptable share of the clean AP, %; 95 without floor and deadline"
    )
    deadline: float | None = Field(
        None,
        gt=0,
        description="a limit in ms: later answers do not count; in a stream, an older answer does in their place",
    )
    leak_at_most: float | None = Field(
        None,
        gt=0,
        description="choose among conditions of which no attacker known to the folder recovers the picture better, dB",
    )
    kind: str | None = Field(None, description="segm or bbox; default: segm if there are masks")
    fps: float | None = Field(
        None, gt=0, le=MOST_FPS, description="decide for a camera's stream of so many frames a second, not for pictures"
    )
    camera: Policy = Field("every", description="what a camera that falls behind sends: every picture, or the newest")
    under_way: int = Field(
        UNDER_WAY, ge=1, description="frames between camera and answer at most, if it sends the newest"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.rate is None) == (self.trace is None):
            raise ValueError("give the link's rate in Mbit/s or the file of a trace, one of them")
        if self.floor is not None and self.keep is not None:
            raise ValueError("give a floor of AP or of what is kept of it, not both")
        if self.burst != 1 and not self.erase:
            raise ValueError("bursts are of packets that stay lost: say erase, too")
        return self
