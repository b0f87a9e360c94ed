"""The result of one image: :class:`Telemetry`, which grows on its way, and the client's :class:`InferenceResult`.

Telemetry travels in the HTTP header ``featlink-report``, beside the frame and not in it: a real link would not carry
it, and the bits of a condition must not depend on how long something took.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import msgspec
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

from featlink.shared.errors import FeatlinkError

HEADER = "featlink-report"
_Bits = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ItemId(NamedTuple):
    """What is inferred, stored and evaluated as one: a frame of a sequence. A still is a sequence of one frame.

    Attributes:
        sequence: the data set's id of the sequence; of a still, its image id.
        frame: its place in the sequence, from 0.

    Example:
        >>> ItemId(139), ItemId("street", 24)
        (ItemId(sequence=139, frame=0), ItemId(sequence='street', frame=24))
    """

    sequence: int | str
    frame: int = 0


class TelemetryError(FeatlinkError):
    """A telemetry header that does not parse."""

    title = "Invalid report"


class Telemetry(msgspec.Struct, frozen=True):
    """Timings, bits and fidelity of one image, growing from service to service.

    Attributes:
        timings: milliseconds by stage (:data:`featlink.shared.timing.STAGES`), on the monotonic clock of the process
            that did it.
        bits: what is to cross the channel→cloud link, headers included; None before the channel.
        link_bits: what did, packets sent again included; None where no link was simulated.
        fidelity: metric name to value; None where it is infinite (nothing was changed) or undefined.
    """

    timings: dict[str, float] = {}
    bits: _Bits | None = None
    fidelity: dict[str, float | None] = {}
    link_bits: _Bits | None = None

    def with_timings(self, **milliseconds: float) -> Telemetry:
        """The same with further stages."""
        return msgspec.structs.replace(self, timings={**self.timings, **milliseconds})

    def header(self) -> dict[str, str]:
        """As an HTTP header."""
        text = msgspec.json.encode(self).decode()
        return {HEADER: text if text.isascii() else json.dumps(json.loads(text))}


def read_header(value: str | None) -> Telemetry:
    """Read the header of a request; without one, telemetry of nothing.

    Raises:
        TelemetryError: it is not telemetry.
    """
    if value is not None and not value.isascii():
        raise TelemetryError(f"{HEADER}: only ASCII can travel in a header")
    try:
        return msgspec.json.decode(value, type=Telemetry) if value else Telemetry()
    except (msgspec.DecodeError, RecursionError) as error:
        raise TelemetryError(f"{HEADER}: {error}") from None


class DetectionMask(TypedDict):
    """A detection's mask: size (height, width) of the image and compressed RLE text."""

    size: list[int]
    counts: str


class Detection(TypedDict):
    """One entry of COCO's results format; bbox is x, y, width, height in pixels of the original image.

    Keypoints are x, y, visibility of each.
    """

    image_id: int | None  # None: a picture outside any data set
    category_id: int
    bbox: list[float]
    score: float
    segmentation: NotRequired[DetectionMask]
    keypoints: NotRequired[list[float]]


Restart = Literal["unknown", "gap", "changed", "failed"]
"""Why a frame of a stream does not go on from the one before it, and so is a key frame: the channel does not know the
stream (any more), frames are missing, the condition or the pictures' size changed, or the last frame failed."""

STREAM_ID = r"^[A-Za-z0-9._-]{1,64}$"
"""What the id of a stream is made of; whoever sends the stream chooses it."""


class StreamFrame(BaseModel):
    """A frame's place in its stream."""

    id: str = Field(description="the stream's", examples=["camera-1"])
    frame: int = Field(description="the frame's number in it", examples=[0, 1])
    key: bool = Field(description="whether it can be decoded without the frames before it")
    restarted: Restart | None = Field(None, description="why the stream began anew with it; null where it did not")


class Packets(BaseModel):
    """What became of the packets of a coded picture on a link that erases some."""

    sent: int = Field(description="packets, parity included")
    lost: int = Field(description="of those")
    resent: int = Field(description="packets sent again")
    units: int = Field(description="parts of the picture that decode alone")
    missing: tuple[tuple[str, int], ...] = Field(description="units that did not arrive: name of the picture, number")
    rows: tuple[tuple[float, float], ...] = Field(
        (), description="where those belong: parts of the picture's height from 0, the top, to 1"
    )


class InferenceResult(BaseModel):
    """What a deployment answers to a picture.

    ``condition`` and ``link`` are the channel's to say; the cloud, asked directly, leaves them out.
    """

    model_config = ConfigDict(frozen=True, extra="allow")  # a later service may say more

    image_id: int | None = Field(description="the picture's id in its data set")
    detections: list[Detection] = Field(description="in COCO's results format")
    categories: dict[str, str] = Field(description="name of each category detected, by its id as text")
    bits: int | None = Field(description="what crossed the link from edge to cloud, headers and side information too")
    bpp: float = Field(description="bits per pixel of the original picture")
    link_bits: int | None = Field(None, description="bits sent, with packets sent again; null without a channel")
    fidelity: dict[str, float | None] = Field(
        description="psnr, ssim and spearman, of features (_f) or the image (_i); null where the PSNR is infinite"
    )
    timings: dict[str, float] = Field(description="milliseconds by stage")
    condition: str = Field("", description="text form of the condition that it went through")
    link: dict[str, Any] = Field({}, description="the simulated link that it went over")
    received: dict[str, str] = Field({}, description="tensors as they were received, PNG in base64, where asked for")
    stream: StreamFrame | None = Field(None, description="the frame's place in its stream; absent for a still")
    packets: Packets | None = Field(None, description="what became of packets; absent where no coded units were sent")
    waited_ms: float = Field(0, description="what the link's simulated time made the request wait, ms")

    def updated(self, **fields: object) -> InferenceResult:
        """The same result with other values of some fields."""
        return self.model_copy(update=fields)

    def body(self) -> dict[str, Any]:
        """The result as JSON has it: without what nobody said."""
        return self.model_dump(mode="json", exclude_unset=True)
