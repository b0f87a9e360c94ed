"""The table of open streams: order, repetition, restarts, bounds, expiry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from sent_by_hand import feature_frame, uniform

from featlink.channel.codecs.base import Tools
from featlink.channel.link import Link
from featlink.channel.streams import SentFrame, StreamTable
from featlink.channel.transmit import Stream
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConflictError, FrameError, NotFoundError
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame
from featlink.shared.result import InferenceResult, Telemetry
from featlink.shared.service.problems import BusyError

CONDITION = "quantize(bits=4)"
ANSWER = InferenceResult(image_id=1, detections=[], categories={}, bits=8, bpp=1.0, fidelity={}, timings={})


def frame(number: int) -> Frame:
    made = feature_frame(uniform(number))
    return Frame(replace(made.meta, image_id=number, key=f"{number:032}"), made.tensors)


def opened(most: int = 4, idle_s: float = 60, most_bytes: int = 1 << 30, wait_s: float = 0.05) -> StreamTable:
    return StreamTable(Tools(threads=1), most, idle_s, most_bytes, wait_s)


@pytest.fixture
def table() -> Iterator[StreamTable]:
    table = opened()
    yield table
    table.close()
    assert len(table) == 0


def push(
    table: StreamTable, stream: str, number: int, text: str = CONDITION, link: Link | None = None, of: int | None = None
) -> SentFrame:
    given = frame(number if of is None else of)
    return table.push(stream, number, given, parse(text), Telemetry(), False, link or Link())


def bits(sent: SentFrame) -> int:
    return sent.transmission.telemetry.bits or 0


def test_frames_are_those_of_a_stream_in_process_and_streams_do_not_touch(table: StreamTable) -> None:
    with Stream(parse(CONDITION), fidelity=False, tools=Tools(threads=1)) as alone:
        expected = [one for n in range(4) for one in alone.push(frame(n), Telemetry())]
    for number, one in enumerate(expected):
        sent = push(table, "a", number)
        push(table, "b", number, "quantize(bits=2)")  # between them
        assert bits(sent) == one.telemetry.bits
        assert sent.transmission.parts == one.parts
        assert sent.state.model_dump() == {"id": "a", "frame": number, "key": one.key, "restarted": None}


def test_a_repeated_frame_is_found_again_and_not_coded(table: StreamTable) -> None:
    sent = [push(table, "a", number) for number in range(3)]
    assert push(table, "a", 2) is sent[2]
    assert push(table, "a", 1) is sent[1]
    sent[1].answered(ANSWER)
    assert push(table, "a", 1).result is ANSWER
    assert [one.frames for one in table.listed()] == [3]
    with pytest.raises(ConflictError, match="another picture"):
        push(table, "a", 2, of=7)
    with pytest.raises(ConflictError, match="quantize"):
        push(table, "a", 2, "identity")
    assert push(table, "a", 3).state.restarted is None


def test_an_old_frame_is_refused(table: StreamTable) -> None:
    for number in range(40):
        push(table, "a", number).answered(ANSWER)
    with pytest.raises(ConflictError, match="comes after frame 39"):
        push(table, "a", 2)


def test_a_gap_a_change_a_failure_and_what_is_not_known_begin_anew_and_say_so(table: StreamTable) -> None:
    whole, next_one = push(table, "a", 0), push(table, "a", 1)
    assert bits(next_one) < bits(whole)
    gap = push(table, "a", 3)
    assert (gap.state.restarted, gap.state.key) == ("gap", True)
    assert bits(gap) > bits(next_one)
    assert push(table, "a", 4, "quantize(bits=3)").state.restarted == "changed"
    assert push(table, "a", 5, "quantize(bits=3)").state.restarted is None
    erasing = Link(loss=0.1, on_loss="erase")
    assert push(table, "a", 6, "quantize(bits=3)", erasing).state.restarted == "changed"
    slow = erasing.model_copy(update={"rate_mbps": 1.0})
    assert push(table, "a", 7, "quantize(bits=3)", slow).state.restarted is None
    broken = Frame(frame(8).meta, (replace(frame(8).tensors[0], data=np.full((1, 2, 2), np.nan, np.float32)),))
    with pytest.raises(FrameError):
        table.push("a", 8, broken, parse("quantize(bits=3)"), Telemetry(), False, slow)
    assert push(table, "a", 8, "quantize(bits=3)", slow).state.restarted == "failed"
    assert push(table, "new", 5).state.restarted == "unknown"


def test_a_frame_that_cannot_be_sent_opens_no_stream(table: StreamTable) -> None:
    broken = Frame(frame(0).meta, (replace(frame(0).tensors[0], data=np.zeros((1, 2, 2), np.float32)),))
    with pytest.raises(FrameError):
        table.push("a", 0, broken, parse(CONDITION), Telemetry(), False, Link())
    assert len(table) == 0


def test_there_are_only_so_many_and_they_end(table: StreamTable) -> None:
    for name in "abcd":
        push(table, name, 0)
    with pytest.raises(BusyError, match="4 streams"):
        push(table, "e", 0)
    table.end("b")
    with pytest.raises(NotFoundError):
        table.end("b")
    push(table, "e", 0)
    assert [one.id for one in table.listed()] == ["a", "c", "d", "e"]
    table.end("a")
    assert push(table, "b", 1).state.restarted == "unknown"


def test_idle_streams_are_closed() -> None:
    table = opened(most=1, idle_s=0.05)
    push(table, "a", 0)
    table.expire()
    assert len(table) == 1
    asyncio.run(asyncio.sleep(0.06))
    assert push(table, "b", 0).state.restarted is None  # its place is free
    assert [one.id for one in table.listed()] == ["b"]


def test_memory_for_what_is_not_answered_is_bounded() -> None:
    size = wire.nbytes(push(opened(), "a", 0).transmission.parts)
    table = opened(most_bytes=3 * size)
    for number in range(5):
        push(table, "a", number)
    push(table, "b", 0)
    assert sum(one.kept_bytes for one in table.listed()) <= 3 * size
    assert push(table, "a", 4).state.frame == 4
    with pytest.raises(ConflictError):
        push(table, "a", 1)


def test_frames_queue_before_the_link(table: StreamTable) -> None:
    slow = Link(rate_mbps=0.001)
    first, second = push(table, "a", 0, link=slow), push(table, "a", 1, link=slow)
    other = push(table, "b", 0, link=slow)
    assert second.passage.start_s == first.passage.sent_s
    assert second.passage.queued_ms > 0
    assert other.passage.queued_ms == 0
    assert push(table, "a", 1, link=slow).passage == second.passage  # it is there already


def order_of(arrivals: list[int], lost: frozenset[int] = frozenset(), wait_s: float = 0.05) -> list[int]:
    """In which order frames that arrive so get their turn."""
    table, order = opened(wait_s=wait_s), list[int]()

    async def request(number: int) -> None:
        await table.turn("a", number)
        order.append(number)
        push(table, "a", number)
        await table.moved()

    async def requests() -> None:
        async with asyncio.TaskGroup() as group:
            for number in arrivals:
                if number not in lost:
                    group.create_task(request(number))
                    await asyncio.sleep(0)

    asyncio.run(requests())
    return order


def test_frames_that_overtake_one_another_are_put_in_order() -> None:
    assert order_of([2, 0, 3, 1], wait_s=30) == [0, 1, 2, 3]


def test_a_frame_that_never_comes_is_waited_for_once() -> None:
    assert order_of([5, 4, 2, 3, 0], lost=frozenset({1})) == [0, 2, 3, 4, 5]
