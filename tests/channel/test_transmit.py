"""Features in, features out: what is sent, what it costs and how good it is, recomputed from the bytes alone."""

from __future__ import annotations

import numpy as np
import pytest
from sent_by_hand import (
    SIZES,
    feature_frame,
    psnr_f,
    receive,
    send,
    uniform,
)

from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.transmit import Stream, transmit
from featlink.shared.conditions.language import from_fields, parse
from featlink.shared.errors import ConditionError, FrameError
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.result import Telemetry


@pytest.mark.parametrize(("bits", "paper"), [(8, 58.92), (4, 34.31)])
def test_quantisation_gives_the_papers_psnr(bits: int, paper: float) -> None:
    levels = uniform()
    sent = send(feature_frame(levels), f"quantize:bits={bits}")
    assert sent.telemetry.fidelity["psnr_f"] == pytest.approx(paper, abs=0.3)


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("per", ["level", "channel"])
def test_samples_bits_and_psnr_are_those_of_the_formulas(bits: int, per: str) -> None:
    levels = {name: level for name, level in uniform(bits).items() if name != "p2"}
    sent = send(feature_frame(levels), f"quantize:bits={bits} @ range={per}")
    _, received = receive(sent)
    assert list(received) == list(levels)
    for name, level in levels.items():
        groups = level.reshape(1 if per == "level" else 256, -1).astype(np.float64)
        low, high = groups.min(axis=1), groups.max(axis=1)
        np.testing.assert_array_equal(received[name].ranges, np.stack([low, high], axis=1))
        assert received[name].bits == bits
        exact = (groups - low[:, None]) * ((2**bits - 1) / (high - low))[:, None]
        clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3
        np.testing.assert_array_equal(received[name].samples.reshape(groups.shape)[clear], np.rint(exact)[clear])
    assert sent.telemetry.fidelity["psnr_f"] == pytest.approx(psnr_f(levels, received), abs=0.01)


def test_a_range_per_channel_is_finer() -> None:
    levels = uniform()
    for level in levels.values():
        level *= np.linspace(0.01, 1, 256, dtype=np.float32)[:, None, None]
    whole, each = (send(feature_frame(levels), f"quantize:bits=6 @ range={per}") for per in ("level", "channel"))
    assert each.telemetry.fidelity["psnr_f"] > whole.telemetry.fidelity["psnr_f"] + 3
    assert each.telemetry.bits > whole.telemetry.bits, "255 more ranges a level are not free"


def test_identity_passes_the_tensors_on_untouched() -> None:
    frame = feature_frame(uniform())
    sent = send(frame, "identity")
    assert sent.frame.tensors is frame.tensors
    assert sent.telemetry.fidelity == {"psnr_f": None, "ssim_f": 1.0, "spearman_f": 1.0}
    _, received = receive(sent)
    for tensor in frame.tensors:
        np.testing.assert_array_equal(received[tensor.name].samples, tensor.data)


def test_the_tensors_given_are_not_written_to() -> None:
    levels = uniform()
    before = {name: level.copy() for name, level in levels.items()}
    send(feature_frame(levels), "quantize:bits=3 | quantize:bits=2")
    for name, level in levels.items():
        np.testing.assert_array_equal(level, before[name])


def test_the_same_frame_gives_the_same_bytes() -> None:
    first, second = (send(feature_frame(uniform()), "quantize:bits=5") for _ in range(2))
    assert b"".join(first.parts) == b"".join(second.parts)


def test_quantisation_after_quantisation_quantises_the_samples() -> None:
    levels = uniform()
    _, coarse = receive(send(feature_frame(levels), "quantize:bits=6"))
    _, coarser = receive(send(feature_frame(levels), "quantize:bits=6 | quantize:bits=2"))
    for name in levels:
        assert coarser[name].bits == 2
        np.testing.assert_array_equal(coarser[name].samples, np.rint(coarse[name].samples * 3 / 63))
        np.testing.assert_array_equal(coarser[name].ranges, coarse[name].ranges)


def test_a_constant_level_comes_back() -> None:
    levels = {**uniform(), "p4": np.full((256, 5, 7), -2.5, np.float32)}
    sent = send(feature_frame(levels), "quantize:bits=8")
    _, received = receive(sent)
    np.testing.assert_array_equal(received["p4"].floats(), levels["p4"])
    assert sent.telemetry.fidelity["psnr_f"] > 58.6  # a level without error only adds to it


def test_p6_may_be_missing() -> None:
    levels = uniform()
    del levels["p6"]
    assert list(receive(send(feature_frame(levels), "quantize:bits=8"))[1]) == ["p2", "p3", "p4", "p5"]


def test_the_frame_says_what_was_done_to_it() -> None:
    sent = send(feature_frame(uniform()), "quantize:bits=5 @ seed=3, range=channel")
    header, _ = receive(sent)
    assert header["condition"] == {
        "steps": [{"type": "quantize", "bits": 5}],
        "seed": 3,
        "range": "channel",
    }
    assert from_fields(header["condition"]) == parse("quantize:bits=5 @ seed=3, range=channel")
    assert (header["domain"], header["model"], header["weights"]) == ("feature", "m", "w")
    assert tuple(map(tuple, (header["original"], header["resized"], header["padded"]))) == (
        SIZES.original,
        SIZES.resized,
        SIZES.padded,
    )


def test_the_report_grows() -> None:
    before = Telemetry({"backbone": 12.0, "serialize": 1000.0})
    timings = send(feature_frame(uniform()), "quantize:bits=8", before).telemetry.timings
    assert list(timings) == ["backbone", "serialize", "fidelity", "distort"]
    assert timings["backbone"] == 12
    assert timings["serialize"] > 1000, "the edge's and the channel's together"
    assert min(timings.values()) > 0
    unmeasured = send(feature_frame(uniform()), "quantize:bits=8", before, fidelity=False).telemetry
    assert unmeasured.fidelity == {}
    assert "fidelity" not in unmeasured.timings


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    levels = uniform()
    levels["p3"][7, 1, 2] = bad
    with pytest.raises(FrameError, match="p3: features are not finite"):
        send(feature_frame(levels), "quantize:bits=8")


@pytest.mark.parametrize(
    "values",
    [(-3e38, 3e38), (0, 1e-44), (1e38, 1.1e38), (-1e-38, 1e-38), (5, 5.000001)],
    ids=str,
)
def test_absurd_features_are_sent_or_refused(values: tuple[float, float]) -> None:
    level = np.random.default_rng(0).choice(np.array(values, np.float32), (256, 2, 2))
    frame = feature_frame({"p6": level})
    _, received = receive(send(frame, "quantize:bits=8", fidelity=False))
    np.testing.assert_array_equal(received["p6"].floats().astype(np.float32), level)
    try:
        send(frame, "quantize:bits=8")
    except FrameError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            Tensor("p2", np.zeros((256, 2, 2), np.float16)),
            "p2 is float16 in 256 channels, distortions take float32 in 256",
        ),
        (Tensor("p2", np.zeros((256, 2, 2), np.uint8)), "p2 is uint8 in 256 channels"),
        (Tensor("p2", np.zeros((256, 2, 2), np.uint8), 8, np.zeros((1, 2), np.float32)), "p2 is uint8"),
        (Tensor("p2", np.zeros((3, 2, 2), np.float32)), "p2 is float32 in 3 channels"),
    ],
)
def test_what_is_no_clean_pyramid_is_refused(tensor: Tensor, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        send(Frame(Meta("feature", "m", "w", SIZES), (tensor,)), "quantize:bits=8")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("image: quantize(bits=8)", "condition is for the image domain, the frame for feature"),
        ("image: identity", "condition is for the image domain"),
        ("sharpen:by=2", "unknown step 'sharpen'; known are identity, .*quantize"),
        ("quantize:bits=17", "quantize: bits: Input should be less than or equal to 16"),
        ("quantize", "quantize: bits: Field required"),
        ("quantize(bits=8, mode=fast)", "quantize: mode: Extra inputs are not permitted"),
        ("quantize:bits=8 | quantize:bits=few", "quantize: bits: Input should be a valid integer"),
    ],
)
def test_conditions_that_cannot_be_sent_are_refused(condition: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        send(feature_frame({"p6": np.zeros((256, 2, 2), np.float32)}), condition)


def test_a_fixed_range_is_the_one_given_and_clips() -> None:
    levels = uniform()  # within -k .. 3**k - k
    sent = send(feature_frame(levels), "quantize:bits=8 @ range=fixed, p2=0:0.5, p3=-2:4, p4=-2:7, p5=0:20")
    _, received = receive(sent)
    ranges = {"p2": (0, 0.5), "p3": (-2, 4), "p4": (-2, 7), "p5": (0, 20), "p6": (0, 20)}
    for name, (low, high) in ranges.items():
        assert received[name].ranges.tolist() == [[low, high]]
        np.testing.assert_allclose(
            received[name].floats(), np.clip(levels[name], low, high), atol=(high - low) / 255 / 2 * 1.001
        )


# --- a link that erases -----------------------------------------------------------------------------------------


def test_an_erasing_link_is_packet_loss_after_the_chain() -> None:
    frame, erasure = feature_frame(uniform()), PacketLoss(rate=0.2, mtu=200, conceal="mean")
    by_link = transmit(frame, parse("quantize:bits=6"), Telemetry(), erasure=erasure)
    by_chain = send(frame, "quantize:bits=6 | packet_loss(rate=0.2, mtu=200, conceal=mean)")
    for one, other in zip(by_link.frame.tensors, by_chain.frame.tensors, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    assert by_link.frame.meta.condition == parse("quantize:bits=6")
    assert by_link.telemetry.fidelity == by_chain.telemetry.fidelity


def test_an_erasing_links_seed_is_its_own() -> None:
    frame, erasure = feature_frame(uniform()), PacketLoss(rate=0.2, mtu=200)
    first, same, other = (
        transmit(frame, parse(text), Telemetry(), erasure=erasure, erasure_seed=seed).frame.tensors[0].data
        for text, seed in (("identity", 1), ("identity @ seed=5", 1), ("identity", 2))
    )
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)


def test_an_erasing_link_damages_what_no_condition_does() -> None:
    sent = transmit(feature_frame(uniform()), parse("identity"), Telemetry(), erasure=PacketLoss(rate=0.5))
    assert {tensor.bits for tensor in sent.frame.tensors} == {8}
    assert sent.telemetry.fidelity["psnr_f"] < 20


def test_an_erasing_link_loses_units_of_codecs() -> None:
    frame, erasure = feature_frame(uniform()), PacketLoss(rate=0.2, parity=0.1)
    by_link = transmit(frame, parse("jpeg(stripes=4)"), Telemetry(), erasure=erasure)
    by_step = transmit(frame, parse("jpeg(stripes=4) | packet_loss(rate=0.2, parity=0.1)"), Telemetry())
    assert by_link.packets == by_step.packets
    assert by_link.packets is not None
    assert by_link.packets.missing
    for mine, other in zip(by_link.frame.tensors, by_step.frame.tensors, strict=True):
        assert np.array_equal(mine.data, other.data)
    held_back = parse("image: vvenc(gop=random_access) @ at=original")
    with pytest.raises(ConditionError, match="hold no pictures back"):
        Stream(held_back, erasure=erasure)
