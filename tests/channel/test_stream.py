"""A stream: frames' bits are those of the bytes written, a receiver rebuilds them, and a still is a stream of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from sent_by_hand import feature_frame, image_frame, pixels, send, uniform

from featlink.channel.transmit import Stream, StreamError, Transmission
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConditionError, FrameError
from featlink.shared.frames import wire
from featlink.shared.frames.continuation import read_next, write_next
from featlink.shared.frames.wire import Frame
from featlink.shared.result import Telemetry

FEATURES = ("identity", "quantize(bits=4)", "gaussian_noise(sigma=3)", "quantize(bits=3) | entropy", "jpeg")
IMAGES = ("image: identity", "image: gaussian_noise(sigma=3)", "image: jpeg @ at=original")


def frames(domain: str, count: int = 3, first_id: int | None = 5) -> list[Frame]:
    made = []
    for number in range(count):
        if domain == "feature":
            frame = feature_frame(uniform(number))
        else:
            frame = image_frame(pixels(40, 56) ^ np.uint8(number), (20, 28))
        image_id = None if first_id is None else first_id + number
        made.append(Frame(replace(frame.meta, image_id=image_id, key=f"{number:032}"), frame.tensors))
    return made


def sent_through(text: str, given: list[Frame]) -> list[Transmission]:
    with Stream(parse(text), fidelity=False) as stream:
        return [sent for frame in given for sent in stream.push(frame, Telemetry())] + stream.close()


@pytest.mark.parametrize("text", [*FEATURES, *IMAGES])
@pytest.mark.parametrize("first_id", [5, None])
def test_bits_are_those_of_the_bytes_written_and_a_receiver_rebuilds_each_frame(
    text: str, first_id: int | None
) -> None:
    given = frames(parse(text).domain, first_id=first_id)
    first, *later = sent_through(text, given)
    assert first.telemetry.bits == send(given[0], text, fidelity=False).telemetry.bits
    before = wire.read(b"".join(wire.write(first.crossing)))
    assert before.meta == replace(given[0].meta, condition=parse(text))
    for number, sent in enumerate(later, 1):
        data = b"".join(write_next(sent.crossing, before, number, [*sent.bitstreams.values()]))
        assert sent.telemetry.bits == 8 * len(data)
        got = read_next(data, before)
        assert got.number == sent.number == number
        assert got.meta == replace(given[number].meta, condition=parse(text), key=given[0].meta.key)
        if sent.bitstreams:
            assert [*map(bytes, got.buffers)] == [*sent.bitstreams.values()]
        else:
            for mine, theirs in zip(got.frame(before).tensors, sent.crossing.tensors, strict=True):
                np.testing.assert_array_equal(mine.data, theirs.data)
        before = sent.crossing


@pytest.mark.parametrize("text", [*FEATURES, *IMAGES])
def test_what_codes_each_frame_alone_gives_each_what_it_gives_a_still(text: str) -> None:
    given = frames(parse(text).domain)
    for frame, sent in zip(given, sent_through(text, given), strict=True):
        still = send(frame, text, fidelity=False)
        assert sent.key
        assert sent.bitstreams == still.bitstreams
        assert b"".join(sent.parts) == b"".join(still.parts)
        assert sent.frame.meta.key == frame.meta.key


def test_fidelity_is_each_frames_own() -> None:
    given = frames("feature", 2)
    with Stream(parse("quantize(bits=4)")) as stream:
        sent = [one for frame in given for one in stream.push(frame, Telemetry())]
    assert [one.fidelity for one in sent] == [send(frame, "quantize(bits=4)").fidelity for frame in given]
    assert [*sent[1].telemetry.timings] == [*send(given[1], "quantize(bits=4)").telemetry.timings]


def test_what_holds_nothing_back_has_no_delay() -> None:
    assert Stream(parse("jpeg")).delay == Stream(parse("identity")).delay == 0


@contextmanager
def ends(stream: Stream) -> Iterator[None]:
    """The stream has ended afterwards."""
    yield
    with pytest.raises(StreamError):
        stream.push(frames("feature", 1)[0], Telemetry())
    assert stream.close() == []


@pytest.mark.parametrize("text", ["identity", "jpeg"])
def test_frames_of_another_sequence_end_it(text: str) -> None:
    one, other = frames("feature", 2)
    with Stream(parse(text)) as stream, ends(stream):
        stream.push(one, Telemetry())
        with pytest.raises(FrameError):
            stream.push(Frame(replace(other.meta, weights="others"), other.tensors), Telemetry())


def test_a_frame_of_the_other_domain_ends_it() -> None:
    with Stream(parse("jpeg")) as stream, ends(stream), pytest.raises(ConditionError):
        stream.push(frames("image", 1)[0], Telemetry())


def test_a_closed_stream_has_ended() -> None:
    with Stream(parse("jpeg")) as stream, ends(stream):
        stream.push(frames("feature", 1)[0], Telemetry())
        stream.close()
