"""The open streams of the channel: sequences whose frames come one request at a time.

A stream begins with its first frame, and ends when it is closed or when no frame has come for a while. What it
remembers, the state of its coders, is here alone: to edge and cloud, each of its frames is a still.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from featlink.channel import randomness
from featlink.channel.codecs.base import Tools
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.link import Link, LinkQueue, Passage
from featlink.channel.transmit import Stream, Transmission
from featlink.shared import cancelling
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import ConflictError, FeatlinkError, NotFoundError
from featlink.shared.features import FeatureSpec, Sizes
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame
from featlink.shared.result import InferenceResult, Restart, StreamFrame, Telemetry
from featlink.shared.service.problems import BusyError

_KEPT_FRAMES = 32
"""Frames of a stream that can be asked for again: more than are under way at once."""


class DelayError(FeatlinkError):
    """A condition whose coder holds pictures back, so that no frame can be answered when it comes."""

    status = 422
    title = "Condition with a delay"


class SentFrame:
    """A frame that went through a stream.

    Args:
        state: what the answer says of it.
        picture: its content hash.
        condition: that it went through.
        transmission: to send to the cloud.
        passage: its way over the link, on the monotonic clock.

    Attributes:
        result: what the cloud answered; only until then there is something to send.
    """

    def __init__(
        self, state: StreamFrame, picture: str, condition: Condition, transmission: Transmission, passage: Passage
    ) -> None:
        self.state, self.picture, self.condition, self.passage = state, picture, condition, passage
        self.result: InferenceResult | None = None
        self._transmission: Transmission | None = transmission

    @property
    def transmission(self) -> Transmission:
        """What to send to the cloud.

        Raises:
            ConflictError: it has answered meanwhile.
        """
        if self._transmission is None:
            raise ConflictError(f"stream {self.state.id}: frame {self.state.frame} is answered already")
        return self._transmission

    def answered(self, result: InferenceResult) -> None:
        """Keep the answer in the place of what was sent for it."""
        self.result, self._transmission = result, None

    @property
    def nbytes(self) -> int:
        """What its tensors take while they are kept."""
        transmission = self._transmission
        return 0 if transmission is None else wire.nbytes(transmission.parts)


@dataclass(frozen=True)
class _Setting:
    """What the coders of a stream rely on: with another one it begins anew."""

    condition: Condition
    fidelity: bool
    erasure: PacketLoss | None
    erasure_seed: int
    model: str
    weights: str
    sizes: Sizes
    features: FeatureSpec


class StreamInfo(BaseModel):
    """An open stream, as ``GET /v1/streams`` lists it."""

    id: str
    condition: str = Field(description="text form of the condition that its frames go through")
    frame: int = Field(description="number of its last frame")
    frames: int = Field(description="how many frames were coded")
    keys: int = Field(description="how many of them were key frames")
    bits: int = Field(description="what crossed the link")
    idle_s: float = Field(description="seconds since its last frame")
    kept_bytes: int = Field(description="of frames that the cloud has not answered")


@dataclass
class _OpenStream:
    setting: _Setting
    queue: LinkQueue
    coder: Stream | None = None
    last: int = -1
    frames: int = 0
    keys: int = 0
    bits: int = 0
    used: float = field(default_factory=time.monotonic)
    kept: dict[int, SentFrame] = field(default_factory=dict)

    def add(self, sent: SentFrame, bits: int) -> None:
        """Go on to the next frame."""
        self.last, self.used = sent.state.frame, time.monotonic()
        self.frames += 1
        self.keys += sent.state.key
        self.bits += bits
        self.kept[self.last] = sent
        if len(self.kept) > _KEPT_FRAMES:
            del self.kept[min(self.kept)]

    def end(self) -> None:
        """Stop the coders, and the programs that they run."""
        coder, self.coder = self.coder, None
        if coder is not None:
            coder.__exit__(None, None, None)

    @property
    def kept_bytes(self) -> int:
        return sum(sent.nbytes for sent in self.kept.values())


class StreamTable:
    """Streams by id. Only :meth:`turn` and :meth:`moved` belong to the event loop; one thread does all else, in order.

    Args:
        tools: the codecs' programs.
        most: streams that may be open at once.
        idle_s: seconds without a frame after which a stream is closed.
        most_bytes: of frames that are kept until the cloud has answered them, of all streams together.
        wait_s: seconds that a frame waits for one before it that has not come.
    """

    def __init__(self, tools: Tools, most: int, idle_s: float, most_bytes: int, wait_s: float) -> None:
        self._tools, self._most, self._idle_s, self._most_bytes, self._wait_s = tools, most, idle_s, most_bytes, wait_s
        self._open: dict[str, _OpenStream] = {}
        self._waiting: dict[str, set[int]] = {}
        self._moved = asyncio.Condition()

    # The order of frames.

    async def turn(self, stream: str, number: int) -> None:
        """Wait until the frames before this one are coded: requests that are under way together overtake one another.

        A frame that never comes is waited for once: the one after it, or the lowest there is, then goes on.
        """
        deadline = time.monotonic() + self._wait_s
        waiting = self._waiting.setdefault(stream, set())
        waiting.add(number)
        try:
            async with self._moved:
                while not self._follows(stream, number):
                    if (left := deadline - time.monotonic()) <= 0 and number == min(waiting):
                        break
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._moved.wait(), max(left, 0.01))
        finally:
            waiting.discard(number)
            if not waiting:
                self._waiting.pop(stream, None)

    def _follows(self, stream: str, number: int) -> bool:
        state = self._open.get(stream)
        return number <= (0 if state is None else state.last + 1)

    async def moved(self) -> None:
        """Tell those who wait that a frame was coded."""
        async with self._moved:
            self._moved.notify_all()

    # Frames.

    def push(
        self,
        stream: str,
        number: int,
        frame: Frame,
        condition: Condition,
        telemetry: Telemetry,
        fidelity: bool,
        link: Link,
    ) -> SentFrame:
        """Send a stream's next frame through a condition and into the link's queue, or find one that was sent.

        A frame that was begun is finished, whoever has gone: half of it would leave the coders in no state to go on.

        Args:
            stream: id of the stream, which begins if it is not open.
            number: of the frame, from 0.
            frame: as for :func:`featlink.channel.transmit.transmit`.
            condition: of the frame's domain.
            telemetry: what the sender reported.
            fidelity: measure it.
            link: what the frame crosses.

        Raises:
            BusyError: too many streams are open.
            ConflictError: a later frame was coded already, or this one as another picture or through another condition.
            DelayError: the condition's coder holds pictures back.
            FeatlinkError: as of :func:`featlink.channel.transmit.transmit`; the next frame is then a key frame.
        """
        now, meta, state = time.monotonic(), frame.meta, self._open.get(stream)
        if state is not None and (sent := state.kept.get(number)) is not None:
            if sent.picture != meta.key:
                raise ConflictError(f"stream {stream}: frame {number} was another picture")
            if sent.condition != condition:
                raise ConflictError(f"stream {stream}: frame {number} was sent through '{sent.condition}'")
            state.used = now
            return sent
        if state is not None and number <= state.last:
            raise ConflictError(f"stream {stream}: frame {number} comes after frame {state.last}; begin another stream")
        setting = _Setting(
            condition, fidelity, link.erasure(), link.seed, meta.model, meta.weights, meta.sizes, meta.features
        )
        restart = _restart(state, number, setting)
        if state is None:
            self.expire()
            if len(self._open) >= self._most:
                raise BusyError(f"{self._most} streams are open already; close one with DELETE /v1/streams/ID")
            state = _OpenStream(setting, LinkQueue(link, now))
        if restart is not None or state.coder is None:
            state.end()
            state.setting, state.coder = setting, self._coder(setting)
        if state.queue.link != link:
            state.queue = LinkQueue(link, now)
        try:
            with cancelling.under(cancelling.Token()):
                (transmission,) = state.coder.push(frame, telemetry)
        except BaseException:
            state.end()
            raise
        bits, rng = transmission.telemetry.bits or 0, randomness.stream(link.seed, "link", meta.image_id, meta.key)
        rounds = 0 if transmission.packets is None else transmission.packets.rounds
        passage = state.queue.send(bits, time.monotonic(), rng, rounds)
        said = StreamFrame(id=stream, frame=number, key=transmission.key, restarted=restart)
        sent = SentFrame(said, meta.key, condition, transmission, passage)
        self._open[stream] = state
        state.add(sent, bits)
        self._forget(sent)
        return sent

    def _coder(self, setting: _Setting) -> Stream:
        condition = setting.condition
        coder = Stream(condition, setting.fidelity, self._tools, setting.erasure, setting.erasure_seed)
        if coder.delay:
            raise DelayError(
                f"'{condition}' holds {coder.delay} pictures back: sweeps can send it, live streams cannot"
            )
        return coder.__enter__()

    def _forget(self, newest: SentFrame) -> None:
        """Drop the oldest frames that wait for an answer, beyond the bound; not the one in work."""
        over = sum(state.kept_bytes for state in self._open.values()) - self._most_bytes
        for state in sorted(self._open.values(), key=lambda state: state.used):
            for number, sent in list(state.kept.items()):
                if over <= 0:
                    return
                if sent.nbytes and sent is not newest:
                    over -= sent.nbytes
                    del state.kept[number]

    # Streams.

    def __len__(self) -> int:
        return len(self._open)

    def listed(self) -> list[StreamInfo]:
        """All open streams."""
        now = time.monotonic()
        return [
            StreamInfo(
                id=stream,
                condition=str(state.setting.condition),
                frame=state.last,
                frames=state.frames,
                keys=state.keys,
                bits=state.bits,
                idle_s=now - state.used,
                kept_bytes=state.kept_bytes,
            )
            for stream, state in self._open.items()
        ]

    def end(self, stream: str) -> None:
        """Close a stream.

        Raises:
            NotFoundError: it is not open.
        """
        if (state := self._open.pop(stream, None)) is None:
            raise NotFoundError(f"no stream {stream} is open")
        state.end()

    def expire(self) -> None:
        """Close streams that have been idle for too long."""
        now = time.monotonic()
        for stream in [stream for stream, state in self._open.items() if now - state.used > self._idle_s]:
            self.end(stream)

    def close(self) -> None:
        """Close all streams."""
        for stream in list(self._open):
            self.end(stream)


def _restart(state: _OpenStream | None, number: int, setting: _Setting) -> Restart | None:
    """Why a frame does not go on from the one before it; None where it does, or is the first."""
    if state is None:
        return "unknown" if number else None
    if state.setting != setting:
        return "changed"
    if number > state.last + 1:
        return "gap"
    return "failed" if state.coder is None else None
