"""Pictures of a camera or a video, decoded by FFmpeg as they come: an RTSP address, a V4L2 camera, or a file.

Example::

    for taken in frames("rtsp://camera/stream"):
        print(taken.time_s, taken.pixels.shape)
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import ExitError, FFmpegError, HTTPBadRequestError, HTTPOtherClientError, InvalidDataError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from featlink.errors import CommandError
from featlink.shared.features import Image

_NO_TCP = (HTTPBadRequestError, HTTPOtherClientError)
"""What cameras answer that send by UDP alone; 461 by the standard."""
_QUICK = {"analyzeduration": "500000"}
"""By default FFmpeg looks at five seconds of a camera's video first, and gives them late."""
_NETWORK = re.compile(r"(rtsps?|rtmps?|https?|srt|udp|tcp)://", re.ASCII | re.IGNORECASE)
_SECRET = re.compile(r"//[^/@]*@")
_PATIENCE_S = 10.0
"""Seconds in which a network source must answer, and within which its next data must come."""
_DAMAGED = 30
"""Damaged packets in a row that end a live source; a camera's link may lose some."""


@dataclass(frozen=True, eq=False)
class Taken:
    """A picture of a source.

    Attributes:
        time_s: when it was taken, in seconds since the source's first picture, by the source's own clock.
        pixels: uint8 RGB, (H, W, 3), upright.
    """

    time_s: float
    pixels: Image


@dataclass(frozen=True)
class Video:
    """What a video file says of itself.

    Attributes:
        fps: frames a second on average; None where that is not known.
        frames: about how many there are; 0 where that is not known.
    """

    fps: float | None
    frames: int


def is_live(source: str) -> bool:
    """Whether a source takes pictures now, as a camera does, rather than having them already.

    Example:
        >>> is_live("rtsp://10.0.0.7/stream"), is_live("/dev/video0"), is_live("street.mp4")
        (True, True, False)
    """
    return _NETWORK.match(source) is not None or source.startswith("/dev/video")


def frames(source: str | Path, paced: bool = True) -> Generator[Taken, None, None]:
    """Take a source's pictures until it ends. Closing the generator closes the source.

    Args:
        source: an address such as ``rtsp://…``, a V4L2 camera such as ``/dev/video0``, or a video file.
        paced: give a file's pictures at the times they were taken, as a camera would; else as fast as they are decoded.
            A live source always sets its own pace, and whoever does not keep up with it gets old pictures.

    Raises:
        CommandError: it cannot be opened, has no video, or ends with an error, such as a camera that is unplugged.
    """
    name = str(source)
    with _opened(name) as (container, stream):
        # Threads for whole frames would hold back as many frames as there are threads.
        stream.thread_type = "SLICE" if is_live(name) else "AUTO"
        begun, first = time.monotonic(), math.nan
        for number, frame in enumerate(_decoded(container, stream, patient=is_live(name))):
            at = _moment(frame, stream, number)
            first = at if math.isnan(first) else first
            taken = Taken(max(0.0, at - first), _upright(frame))
            if paced and not is_live(name):
                time.sleep(max(0.0, begun + taken.time_s - time.monotonic()))
            yield taken


def about(path: Path) -> Video:
    """What a video file says of itself.

    Raises:
        CommandError: it cannot be opened, or has no video.
    """
    with _opened(str(path)) as (container, stream):
        fps = None if stream.average_rate is None else float(stream.average_rate)
        lasts = float(container.duration or 0) / av.time_base
        return Video(fps, stream.frames or round(lasts * (fps or 0)))


@contextlib.contextmanager
def _opened(source: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The source and its video; FFmpeg's errors come out as one line without passwords."""
    form, patience = None, None
    if _NETWORK.match(source):
        patience = (_PATIENCE_S, _PATIENCE_S)
    elif is_live(source):
        form = "v4l2"
    elif not Path(source).is_file():
        raise CommandError(f"there is no video {source}")
    shown = _SECRET.sub("//", source)

    def opened(**options: str) -> InputContainer:
        return av.open(source, format=form, options=options, timeout=patience)

    try:
        try:
            container = opened(rtsp_transport="tcp", **_QUICK) if source.lower().startswith("rtsp") else opened()
        except _NO_TCP:
            container = opened(rtsp_transport="udp", **_QUICK)
        with container:
            if not container.streams.video:
                raise CommandError(f"{shown} has no video")
            yield container, container.streams.video[0]
    except ExitError:  # what PyAV makes of the time-out
        raise CommandError(f"{shown}: nothing came for {_PATIENCE_S:g} s") from None
    except FFmpegError as error:
        raise CommandError(f"{shown}: {error.strerror}") from None


def _decoded(container: InputContainer, stream: VideoStream, patient: bool) -> Iterator[VideoFrame]:
    """Its frames; with patience, some damaged packets are passed over."""
    damaged = 0
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
            damaged = 0
        except InvalidDataError:
            damaged += 1
            if not patient or damaged == _DAMAGED:
                raise


def _moment(frame: VideoFrame, stream: VideoStream, number: int) -> float:
    """When a frame is to be shown, in seconds; counted where the source does not say."""
    if frame.pts is None:
        return float(number / (stream.average_rate or stream.base_rate or Fraction(25)))
    return frame.time


def _upright(frame: VideoFrame) -> Image:
    """Its pixels, turned as the file says: a phone's films lie on their side."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else np.asarray(pixels, np.uint8)
