"""A camera's pictures through running services: taken at their own rate, several under way at once, answered in order.

::

    source ─ Camera (newest, or every picture) ─ Pipeline ─ edge ─ channel ─ cloud ─ answers, in order

While the cloud works on one frame, the next one crosses the link and a third one is at the edge.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Literal

from featlink.client import PATIENCE_SECONDS, Client
from featlink.errors import CommandError, RefusalError
from featlink.shared.errors import FeatlinkError
from featlink.shared.result import InferenceResult

Policy = Literal["newest", "every"]
"""What a camera does with pictures that come while earlier ones cannot be sent: forget all but the last, or none."""

Params = Mapping[str, str | int | bool | None]

_AWAY = {502, 503, 504}
"""Statuses of a service that is busy or started again; the same frame may be answered a moment later."""
_PAUSE_SECONDS = 0.5
_MOST_REFUSALS = 20
"""Frames refused one after another with which a stream ends."""


@dataclass(frozen=True)
class Shot:
    """A picture as a camera took it.

    Attributes:
        picture: a picture file's bytes.
        index: its number among all that were taken.
        taken_s: when, on the monotonic clock.
        image_id: its id in its data set, if it has one.
    """

    picture: bytes
    index: int
    taken_s: float
    image_id: int | None = None


class Camera:
    """Takes pictures in a thread, and holds those that wait to be sent. A context manager.

    Args:
        pictures: each with its image id, or None; comes at the camera's own rate.
        policy: which of them wait.
        most: how many wait at most; with ``every``, later ones are dropped while so many do.
        most_bytes: of all that wait, beside the last.
    """

    def __init__(
        self,
        pictures: Iterable[tuple[bytes, int | None]],
        policy: Policy,
        most: int = 256,
        most_bytes: int = 64 << 20,
    ) -> None:
        self._pictures, self._most, self._most_bytes = pictures, 1 if policy == "newest" else most, most_bytes
        self._newest = policy == "newest"
        self._waiting: deque[Shot] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._thread = threading.Thread(target=self._take, name="camera", daemon=True)
        self.taken = self.dropped = 0
        self.error: FeatlinkError | None = None

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def stop(self) -> None:
        """Take no more; what waits is forgotten."""
        with self._changed:
            self._stopped = self._ended = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the source has ended."""
        self._thread.join()

    def next(self) -> Shot | None:
        """Wait for a picture to send; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting else None

    def _bytes(self) -> int:
        return sum(len(shot.picture) for shot in self._waiting)

    def _take(self) -> None:
        try:
            for index, (picture, image_id) in enumerate(self._pictures):
                with self._changed:
                    if self._stopped:
                        return
                    self.taken += 1
                    if len(self._waiting) >= self._most or self._bytes() > self._most_bytes:
                        self.dropped += 1
                        if not self._newest:
                            continue
                        self._waiting.popleft()
                    self._waiting.append(Shot(picture, index, time.monotonic(), image_id))
                    self._changed.notify_all()
        except FeatlinkError as error:
            self.error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


@dataclass(frozen=True)
class Answer:
    """What became of a frame.

    Attributes:
        shot: the picture.
        number: of the frame in its stream.
        sent_s: when it was sent, on the monotonic clock.
        answered_s: when the answer was there.
        result: the answer; None if it was refused.
        refusal: why, in one line.
    """

    shot: Shot
    number: int
    sent_s: float
    answered_s: float
    result: InferenceResult | None
    refusal: str = ""

    @property
    def latency_s(self) -> float:
        """From the camera to the answer."""
        return self.answered_s - self.shot.taken_s


@dataclass
class _UnderWay:
    shot: Shot
    number: int
    sent_s: float
    answer: Future[tuple[InferenceResult, float]]


class Pipeline:
    """The frames of one stream, several under way at once. A context manager, which closes the stream.

    A frame that is not answered because a service is away for a while is sent again, those behind it after it, and
    nothing new meanwhile: the channel takes no frame after a later one.

    Args:
        client: one that is not patient, since the order of frames is kept here.
        params: of every frame, as for :meth:`featlink.client.Client.infer`.
        under_way: how many at once.
    """

    def __init__(self, client: Client, params: Params, under_way: int) -> None:
        self.id = uuid.uuid4().hex
        self._client, self._params, self._most = client, params, under_way
        self._pool = ThreadPoolExecutor(under_way, thread_name_prefix="frame")
        self._frames: deque[_UnderWay] = deque()
        self._changed = threading.Condition()
        self._number = 0
        self._mending = self._finished = False
        self.sent_again = 0

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()
        self._pool.shutdown(cancel_futures=True)
        if self._number:
            try:
                self._client.end_stream(self.id)
            except CommandError:  # it is closed when it has been idle for a while
                return

    def __len__(self) -> int:
        """How many frames are under way."""
        return len(self._frames)

    def send(self, shot: Shot) -> bool:
        """Wait for room, send a frame, and return when the edge has it; False once :meth:`finish` was called."""
        uploaded = threading.Event()
        with self._changed:
            self._changed.wait_for(lambda: self._finished or (len(self._frames) < self._most and not self._mending))
            if self._finished:
                return False
            frame = _UnderWay(shot, self._number, time.monotonic(), Future())
            frame.answer = self._pool.submit(self._infer, shot, frame.number, uploaded.set)
            self._number += 1
            self._frames.append(frame)
            self._changed.notify_all()
        frame.answer.add_done_callback(lambda _: uploaded.set())
        uploaded.wait()
        return True

    def feed(self, camera: Camera) -> None:
        """Send what a camera takes, in a thread, to its end."""

        def feeding() -> None:
            while (shot := camera.next()) is not None and self.send(shot):
                pass
            self.finish()

        threading.Thread(target=feeding, name="sender", daemon=True).start()

    def finish(self) -> None:
        """Send no more."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def answers(self) -> Iterator[Answer]:
        """Every frame's answer in order, as they come, until nothing is under way after :meth:`finish`.

        Raises:
            CommandError: nobody has answered for a long time, or frame after frame is refused.
        """
        refused = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._finished)
                if not self._frames:
                    return
                frame = self._frames[0]
            wait([frame.answer])
            if _is_away(frame.answer.exception()):
                self._mend()
            try:
                result, answered_s = frame.answer.result()
                answer = Answer(frame.shot, frame.number, frame.sent_s, answered_s, result)
                refused = 0
            except RefusalError as error:
                refused += 1
                if refused > frame.number or refused > _MOST_REFUSALS:
                    raise
                answer = Answer(frame.shot, frame.number, frame.sent_s, time.monotonic(), None, str(error))
            with self._changed:
                self._frames.popleft()
                self._changed.notify_all()
            yield answer

    def _infer(
        self, shot: Shot, number: int, uploaded: Callable[[], None] | None = None
    ) -> tuple[InferenceResult, float]:
        params = {"image_id": shot.image_id, "stream": self.id, "frame": number, **self._params}
        return self._client.infer(shot.picture, uploaded, **params), time.monotonic()

    def _mend(self) -> None:
        """Send what failed again, one frame after the other, each until it is answered."""
        with self._changed:
            self._mending = True
            frames = list(self._frames)
        wait([frame.answer for frame in frames])
        for frame in frames:
            until = time.monotonic() + PATIENCE_SECONDS
            while _is_away(frame.answer.exception()) and time.monotonic() < until:
                time.sleep(_PAUSE_SECONDS)
                self.sent_again += 1
                frame.answer = self._pool.submit(self._infer, frame.shot, frame.number)
                wait([frame.answer])
        with self._changed:
            self._mending = False
            self._changed.notify_all()


def _is_away(error: BaseException | None) -> bool:
    """Whether a service cannot be reached, or says that it may answer later."""
    if isinstance(error, RefusalError):
        return error.status in _AWAY
    return isinstance(error, CommandError)
