"""A live stream's frames as records, and the figures that follow from them: rates, latencies, drops."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np

from featlink.errors import CommandError
from featlink.shared.errors import StorageError
from featlink.shared.files import replace
from featlink.shared.result import Detection
from featlink.streaming import Answer, Camera, Pipeline

ABOUT = "stream.json"
FRAMES = "frames.jsonl"

_WINDOW_SECONDS = 5.0
_RECENT = 10_000
"""Frames over which percentiles go."""


class FrameRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A frame; moments are seconds since the stream began.

    Attributes:
        frame: number in the stream.
        picture: number among those the camera took.
        taken_s: when it was taken.
        sent_s: when it was sent.
        answered_s: when its answer was there.
        bits: that crossed the link; None if it was refused.
        key: whether it can be decoded without those before.
        restarted: why the stream began anew with it.
        timings: milliseconds by stage.
        detections: in COCO's results format.
        image_id: its id in its data set.
        refusal: why it was refused.
    """

    frame: int
    picture: int
    taken_s: float
    sent_s: float
    answered_s: float
    bits: int | None = None
    key: bool = False
    restarted: str | None = None
    timings: dict[str, float] = {}
    detections: list[Detection] = []
    image_id: int | None = None
    refusal: str = ""

    @property
    def latency_ms(self) -> float:
        """From the camera to the answer."""
        return 1e3 * (self.answered_s - self.taken_s)


class StreamAbout(msgspec.Struct, frozen=True):
    """What a stream was.

    Attributes:
        source: where the pictures came from.
        condition: that they went through.
        link: that they crossed.
        policy: of the camera.
        model: architecture.
        weights: identity of its weights.
        categories: name of each label, the background's first.
        begun: UTC, ISO 8601.
        featlink: version.
        clip: of the data set that ``source`` is, the one that was sent; empty for another source.
        taken: pictures that the camera took.
        dropped: pictures that it did not send.
        ended: why it ended; empty while it runs.
    """

    source: str
    condition: str
    link: dict[str, object]
    policy: str
    model: str
    weights: str
    categories: list[str]
    begun: str
    featlink: str
    clip: str = ""
    taken: int = 0
    dropped: int = 0
    ended: str = ""


def record(answer: Answer, begun_s: float) -> FrameRecord:
    """An answer as a record, in a stream that began then."""
    shot, result = answer.shot, answer.result
    taken_s, sent_s, answered_s = (
        round(moment - begun_s, 6) for moment in (shot.taken_s, answer.sent_s, answer.answered_s)
    )
    if result is None:
        return FrameRecord(
            answer.number,
            shot.index,
            taken_s,
            sent_s,
            answered_s,
            image_id=shot.image_id,
            refusal=answer.refusal,
        )
    place = result.stream
    return FrameRecord(
        answer.number,
        shot.index,
        taken_s,
        sent_s,
        answered_s,
        bits=result.bits,
        key=place is not None and place.key,
        restarted=None if place is None else place.restarted,
        timings=result.timings,
        detections=result.detections,
        image_id=shot.image_id,
    )


class StreamFolder:
    """Writes a stream's records as they come. A context manager.

    Args:
        folder: made if missing; what it has of another stream is replaced.
        about: what the stream is.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, folder: Path, about: StreamAbout) -> None:
        self.path, self._about = folder, about
        self._encoder = msgspec.json.Encoder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / FRAMES).open("wb")
        except OSError as error:
            raise StorageError(f"cannot write in {folder}: {error.strerror}") from None

        self._describe(about)

    def __enter__(self) -> StreamFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, one: FrameRecord) -> None:
        """Write a frame.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            self._file.write(self._encoder.encode(one) + b"\n")
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self.path / FRAMES}: {error.strerror}") from None

    def end(self, figures: StreamFigures, why: str) -> None:
        """Write how it ended."""
        self._describe(msgspec.structs.replace(self._about, taken=figures.taken, dropped=figures.dropped, ended=why))

    def _describe(self, about: StreamAbout) -> None:
        replace(self.path / ABOUT, msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n")


def load_stream(folder: Path) -> tuple[StreamAbout, list[FrameRecord]]:
    """Read what :class:`StreamFolder` wrote; a line that a killed process left half written is left out.

    Raises:
        CommandError: it is no stream's folder.
    """
    try:
        about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=StreamAbout)
        lines = (folder / FRAMES).read_bytes().splitlines(keepends=True)
        decoder = msgspec.json.Decoder(FrameRecord)
        return about, [decoder.decode(line) for line in lines if line.endswith(b"\n")]
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise CommandError(f"{folder} is not a stream's folder: {error}") from None


@dataclass(frozen=True)
class StreamFigures:
    """A stream in figures; None where there is nothing to say it of.

    Attributes:
        taken: pictures that the camera took.
        answered: frames that were answered.
        dropped: pictures that the camera did not send.
        refused: frames that were refused.
        sent_again: how often a frame was sent once more, as a service was away.
        keys: frames that can be decoded alone.
        restarts: how often the stream began anew, by reason.
        in_fps: pictures taken in a second.
        out_fps: frames answered in a second.
        kbps: 1000 bits a second over the link.
        median_ms: latency from the camera to the answer.
        p95_ms: its 95th percentile.
        age_ms: since the picture was taken whose answer is the newest.
        waiting: pictures that wait at the camera.
        under_way: frames between camera and answer.
    """

    taken: int
    answered: int
    dropped: int
    refused: int
    sent_again: int
    keys: int
    restarts: Counter[str]
    in_fps: float | None
    out_fps: float | None
    kbps: float | None
    median_ms: float | None
    p95_ms: float | None
    age_ms: float | None
    waiting: int
    under_way: int


class Counted:
    """Counts a stream's frames as they are answered.

    Args:
        camera: that takes the pictures.
        pipeline: that sends them.
    """

    def __init__(self, camera: Camera, pipeline: Pipeline) -> None:
        self._camera, self._pipeline = camera, pipeline
        self.begun_s = time.monotonic()
        self._answered = self._refused = self._keys = self._bits = 0
        self._restarts: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=_RECENT)
        self._newest_s: float | None = None
        self._samples: deque[tuple[float, int, int, int]] = deque([(self.begun_s, 0, 0, 0)])

    def add(self, one: FrameRecord) -> None:
        """Count a frame."""
        if one.bits is None:
            self._refused += 1
            return
        self._answered += 1
        self._keys += one.key
        self._bits += one.bits
        self._latencies.append(one.latency_ms)
        self._newest_s = self.begun_s + one.taken_s
        if one.restarted is not None:
            self._restarts[one.restarted] += 1

    def recent(self) -> StreamFigures:
        """As it is now: rates over the last seconds."""
        now = time.monotonic()
        self._samples.append((now, self._camera.taken, self._answered, self._bits))
        while len(self._samples) > 2 and self._samples[1][0] < now - _WINDOW_SECONDS:
            self._samples.popleft()
        return self._figures(self._samples[0], now)

    def total(self) -> StreamFigures:
        """From the beginning to now."""
        return self._figures((self.begun_s, 0, 0, 0), time.monotonic())

    def _figures(self, before: tuple[float, int, int, int], now: float) -> StreamFigures:
        seconds, latencies = now - before[0], list(self._latencies)

        def rate(count: float) -> float | None:
            return count / seconds if seconds > 0 else None

        median, p95 = np.percentile(latencies, [50, 95]).tolist() if latencies else (None, None)
        return StreamFigures(
            self._camera.taken,
            self._answered,
            self._camera.dropped,
            self._refused,
            self._pipeline.sent_again,
            self._keys,
            self._restarts,
            rate(self._camera.taken - before[1]),
            rate(self._answered - before[2]),
            rate((self._bits - before[3]) / 1e3),
            median,
            p95,
            None if self._newest_s is None else 1e3 * (now - self._newest_s),
            len(self._camera),
            len(self._pipeline),
        )
