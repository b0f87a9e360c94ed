"""A codec on a lossy link: no loss changes nothing, total loss leaves nothing or the last picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sent_by_hand import feature_frame, image_frame, pixels, send, uniform

from featlink.channel.distortions.base import Planes
from featlink.channel.distortions.packet_loss import conceal
from featlink.channel.transmit import Stream, Transmission
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame
from featlink.shared.result import Telemetry

FEATURES = ("quantize(bits=4) | entropy(stripes=3)", "jpeg(stripes=4)", "jpeg")
IMAGES = ("image: jpeg(stripes=3) @ at=original", "image: h264(slice_bytes=300) @ at=original")


def frame_for(text: str) -> Frame:
    return image_frame(pixels(40, 56), (20, 28)) if parse(text).domain == "image" else feature_frame(uniform())


def behind(text: str, loss: str) -> str:
    chain, _, options = text.partition(" @")
    return f"{chain} | packet_loss({loss})" + (f" @{options}" if options else "")


@pytest.mark.parametrize("text", [*FEATURES, *IMAGES])
@pytest.mark.parametrize("loss", ["rate=0", "rate=0, parity=0.5, interleave=3, conceal=last", "rate=0.2, retries=16"])
def test_what_arrives_whole_is_what_the_codec_made(text: str, loss: str) -> None:
    plain, lossy = send(frame_for(text), text), send(frame_for(text), behind(text, loss))
    assert lossy.packets is not None
    assert not lossy.packets.missing
    assert not lossy.frame.meta.lost
    for mine, other in zip(lossy.frame.tensors, plain.frame.tensors, strict=True):
        assert np.array_equal(mine.data, other.data)
    assert lossy.bitstreams == plain.bitstreams
    header = wire.nbytes(wire.write(replace(lossy.crossing, tensors=()))) - wire.nbytes(
        wire.write(replace(plain.crossing, tensors=()))
    )
    assert (lossy.telemetry.bits or 0) - (plain.telemetry.bits or 0) - lossy.packets.overhead_bits in (
        8 * header,
        8 * header + 512,  # the header's padding to 64
        8 * header - 512,
    )


@pytest.mark.parametrize("text", [*FEATURES, *IMAGES])
@pytest.mark.parametrize("how", ["zero", "mean", "neighbour", "last"])
def test_of_a_still_that_is_lost_nothing_is_left(text: str, how: str) -> None:
    sent = send(frame_for(text), behind(text, f"rate=1, conceal={how}"))
    assert sent.frame.meta.lost
    assert wire.read(b"".join(sent.parts)).meta.lost
    assert sent.packets is not None
    assert len(sent.packets.missing) == sent.packets.units > 0


def test_concealment_is_near_where_a_stripe_is_missing() -> None:
    ramp = np.linspace(0, 4, 20)[:, None] + np.linspace(0, 1, 28)
    frame = feature_frame({**uniform(), "p2": np.broadcast_to(ramp, (256, 20, 28)).astype(np.float32)})

    def error(how: str) -> float:
        given = parse(f"entropy(stripes=5) | packet_loss(rate=0, trace=..x.., mtu=9000, conceal={how})")
        sent = send(Frame(frame.meta, frame.tensors[:1]), str(given), fidelity=False)
        assert sent.packets is not None
        assert len(sent.packets.missing) >= 1
        return float(np.abs(sent.frame.tensors[0].data.astype(float) - ramp * 51).mean())

    assert error("neighbour") < error("mean") < error("zero")


@pytest.mark.parametrize(
    ("text", "height", "padded"),
    [("image: jpeg(stripes=3) @ at=original", 40, 1), ("quantize(bits=4) | entropy(stripes=3)", 20, 96 / 80)],
)
def test_the_rows_of_what_is_missing_are_told(text: str, height: int, padded: float) -> None:
    """As parts of the picture's height; planes of features go on below it."""
    frame = frame_for(text)
    edges = {"image": [0, 16, 32, 40], "p2": [0, 7, 13, 20]}
    found = set()
    for number in range(8):
        item = Frame(replace(frame.meta, image_id=number), frame.tensors[:1])
        sent = send(item, behind(text, "rate=0.4, mtu=65535"))
        assert sent.packets is not None
        parts = [edges[name][number : number + 2] for name, number in sent.packets.missing]
        rows = [any(top <= row < end for top, end in parts) for row in range(height)]
        told = sent.packets.rows
        centres = [(row + 0.5) / height * padded for row in range(height)]
        seen = [gone for gone, centre in zip(rows, centres, strict=True) if centre < 1]
        assert [any(top <= one < end for top, end in told) for one in centres if one < 1] == seen
        assert all(0 <= top < end <= 1 for top, end in told)
        found.add(len(told))
    assert len(found) > 1


def test_units_of_tiles_are_everywhere() -> None:
    sent = send(feature_frame(uniform()), "jpeg(stripes=4) | packet_loss(rate=0, trace=.x, mtu=65535)")
    assert sent.packets is not None
    assert sent.packets.rows == ((0, 1),)


def test_a_level_that_is_lost_whole_is_made_from_another() -> None:
    smooth = {
        name: np.full(level.shape, 3 + k, np.float32) + 0.01 * level
        for k, (name, level) in enumerate(uniform().items())
    }
    text = "jpeg | packet_loss(rate=0, mtu=65535, trace=x...., conceal=neighbour)"
    sent = send(feature_frame(smooth), text, fidelity=False)
    assert sent.packets is not None
    assert len(sent.packets.missing) == 1
    assert not sent.frame.meta.lost


def sequence(text: str, count: int = 6) -> list[Transmission]:
    base = pixels(64, 80) // 8 + 100
    frames = [image_frame(np.roll(base, 2 * i, 2) + np.uint8(i), (32, 40)) for i in range(count)]
    with Stream(parse(text), fidelity=False) as stream:
        return [
            one
            for i, frame in enumerate(frames)
            for one in stream.push(Frame(replace(frame.meta, image_id=i), frame.tensors), Telemetry())
        ] + stream.close()


@pytest.mark.parametrize("codec", ["hevc(gop=low_delay)", "h264(gop=low_delay, slice_bytes=65535)", "jpeg"])
def test_a_stream_repeats_its_last_picture_once_it_has_one(codec: str) -> None:
    for seed in range(40):
        sent = sequence(f"image: {codec} | packet_loss(rate=0.5, mtu=9000, conceal=last) @ at=original, seed={seed}", 3)
        lost = [bool(one.packets and one.packets.missing) for one in sent]
        if lost == [True, False, True] or (codec != "jpeg" and lost == [False, True, True]):
            break
    pictures = [one.frame.tensors[0].data for one in sent]
    if lost[0]:  # what is coded from a picture that never came is lost with it
        assert [one.frame.meta.lost for one in sent] == [True, codec != "jpeg", codec != "jpeg"]
    else:
        assert not any(one.frame.meta.lost for one in sent)
        assert np.array_equal(pictures[1], pictures[0])
    if codec == "jpeg":
        assert np.array_equal(pictures[2], pictures[1])


@pytest.mark.parametrize("codec", ["hevc(gop=low_delay, preset=ultrafast)", "h264(gop=low_delay, slice_bytes=65535)"])
def test_a_requested_key_frame_ends_the_damage(codec: str) -> None:
    clean = sequence(f"image: {codec} @ at=original", 8)
    for seed in range(20):
        text = f"image: {codec} | packet_loss(rate=0.3, conceal=last, key_request=2) @ at=original, seed={seed}"
        sent = sequence(text, 8)
        losses = [i for i, one in enumerate(sent) if one.packets and one.packets.missing]
        if losses and losses[0] in (1, 2) and losses[0] + 2 not in losses:
            break
    at = losses[0]
    assert sent[at + 2].key
    assert not sent[at + 1].key
    same = [np.array_equal(a.frame.tensors[0].data, b.frame.tensors[0].data) for a, b in zip(sent, clean, strict=True)]
    assert same[:at] == [True] * at
    assert not same[at]
    if at + 1 not in losses and codec.startswith("hevc"):  # whose receiver waits for the key frame
        assert np.array_equal(sent[at + 1].frame.tensors[0].data, sent[at - 1].frame.tensors[0].data)
    error = np.abs(sent[at + 2].frame.tensors[0].data.astype(int) - clean[at + 2].frame.tensors[0].data).mean()
    assert error < 4  # the key frame's own coding


def test_losses_do_not_depend_on_what_was_sent_before() -> None:
    text = parse("image: jpeg(stripes=4) | packet_loss(rate=0.5) @ at=original")
    frame = image_frame(pixels(64, 80), (32, 40))
    alone = [send(Frame(replace(frame.meta, image_id=i), frame.tensors), str(text)).packets for i in range(4)]
    again = [send(Frame(replace(frame.meta, image_id=i), frame.tensors), str(text)).packets for i in (3, 2, 1, 0)]
    assert alone == again[::-1]
    assert len({report.missing for report in alone if report}) > 1


@pytest.mark.parametrize(
    "text",
    [
        "quantize(bits=4) | packet_loss(rate=0.1, parity=0.2)",
        "packet_loss(rate=0.1, conceal=last)",
        "jpeg | packet_loss(rate=0.1, conceal=none)",
        "jpeg | quantize(bits=4) | packet_loss(rate=0.1)",
        "jpeg | packet_loss(rate=0.1, mtu=64, header=60)",
        "jpeg | packet_loss(rate=0.1, trace=.x)",
        "jpeg | packet_loss(rate=0, trace=.x2)",
        "jpeg | packet_loss(rate=0.1) | packet_loss(rate=0.1)",
        "image: hevc(gop=random_access) | packet_loss(rate=0.1)",
        "jpeg | bit_error(ber=0.1)",
    ],
)
def test_what_has_no_meaning_is_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        chain(parse(text))


def test_rows_between_those_that_came() -> None:
    samples = np.arange(5, dtype=np.uint8).repeat(3).reshape(1, 5, 3) * 10
    missing = np.zeros((1, 5, 3), np.bool_)
    missing[:, [1, 2, 4]] = True
    planes = Planes(np.where(missing, np.uint8(255), samples), 8, np.array([[0, 255]], np.float32), "p2")
    assert conceal(planes, missing, "neighbour")[0, :, 0].tolist() == [0, 10, 20, 30, 30]
    before = np.full((1, 5, 3), 7.0, np.float32)
    assert conceal(planes, missing, "last", before)[0, :, 0].tolist() == [0, 7, 7, 30, 7]
