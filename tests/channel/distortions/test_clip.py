"""Clipping at standard deviations from the mean, of floats before quantisation and of samples behind it."""

from __future__ import annotations

import numpy as np
import pytest
from sent_by_hand import SHAPES, Levels, feature_frame, image_frame, pixels, receive, send

from featlink.channel.distortions.clip import Clip, clip
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError


def normal() -> Levels:
    rng = np.random.default_rng(4)
    return {
        name: rng.normal(k, k + 1, (256, *shape)).astype(np.float32) for k, (name, shape) in enumerate(SHAPES.items())
    }


def bounds(values: np.ndarray, sigmas: float) -> tuple[float, float]:
    mean, deviation = values.astype(np.float64).mean(), values.astype(np.float64).std()
    return max(float(values.min()), mean - sigmas * deviation), min(float(values.max()), mean + sigmas * deviation)


@pytest.mark.parametrize("text", ["clip(sigmas=2)", "clip(sigmas=2) | quantize(bits=4)"])
def test_before_quantisation_it_narrows_what_samples_are_mapped_from(text: str) -> None:
    levels = normal()
    for name, tensor in receive(send(feature_frame(levels), text))[1].items():
        low, high = bounds(levels[name], 2)
        assert tensor.bits == (4 if "bits=4" in text else 8)
        assert tensor.ranges is not None
        np.testing.assert_allclose(tensor.ranges, [[low, high]], rtol=1e-5)
        step = (high - low) / (2**tensor.bits - 1)
        assert np.abs(tensor.floats() - np.clip(levels[name], low, high)).max() < 0.501 * step, "full precision"


def test_per_channel_where_ranges_are() -> None:
    levels = normal()
    for name, tensor in receive(send(feature_frame(levels), "clip(sigmas=1) @ range=channel"))[1].items():
        expected = [bounds(channel, 1) for channel in levels[name]]
        np.testing.assert_allclose(tensor.ranges, expected, rtol=1e-4, atol=1e-5)


def test_within_a_fixed_range() -> None:
    text = "clip(sigmas=1) @ range=fixed, p2=-1:1, p3=-1:1, p4=-1:1, p5=90:91"
    received = receive(send(feature_frame(normal()), text))[1]
    for name, tensor in received.items():
        assert tensor.ranges is not None
        low, high = (90, 91) if name in ("p5", "p6") else (-1, 1)
        assert low <= tensor.ranges[0, 0] <= tensor.ranges[0, 1] <= high
    low, high = bounds(np.clip(normal()["p2"], -1, 1), 1)
    np.testing.assert_allclose(received["p2"].ranges, [[low, high]], rtol=1e-5)


def test_a_far_bound_changes_nothing() -> None:
    plain, clipped = (
        receive(send(feature_frame(normal()), f"{text}quantize(bits=4)"))[1] for text in ("", "clip(sigmas=99) | ")
    )
    for name, tensor in plain.items():
        np.testing.assert_array_equal(clipped[name].samples, tensor.samples)
        np.testing.assert_array_equal(clipped[name].ranges, tensor.ranges)


def test_a_constant_stays() -> None:
    levels = {name: np.full((256, *shape), 0.1, np.float32) for name, shape in SHAPES.items()}
    for tensor in receive(send(feature_frame(levels), "clip(sigmas=3)", fidelity=False))[1].values():
        np.testing.assert_array_equal(tensor.floats(), np.float64(np.float32(0.1)))


def test_of_an_image() -> None:
    image = pixels(20, 30)
    tensor = receive(send(image_frame(image, (20, 30)), "clip(sigmas=1) | quantize(bits=3) @ at=original"))[1]["image"]
    np.testing.assert_allclose(tensor.ranges, [bounds(image, 1)], rtol=1e-5)


def test_behind_another_step_it_clips_samples() -> None:
    levels = normal()
    before = receive(send(feature_frame(levels), "quantize(bits=6)"))[1]
    for name, tensor in receive(send(feature_frame(levels), "quantize(bits=6) | clip(sigmas=1)"))[1].items():
        samples = before[name].samples
        low, high = (round(bound) for bound in bounds(samples, 1))
        np.testing.assert_array_equal(tensor.samples, np.clip(samples, low, high))
        np.testing.assert_array_equal(tensor.ranges, before[name].ranges)


def test_it_clips_a_second_time() -> None:
    levels = normal()
    for name, tensor in receive(send(feature_frame(levels), "clip(sigmas=2) | clip(sigmas=1)"))[1].items():
        once = np.clip(levels[name], *bounds(levels[name], 2))
        np.testing.assert_allclose(tensor.ranges, [bounds(once, 1)], rtol=1e-4)


def test_samples() -> None:
    assert clip(np.array([[0, 9], [11, 90]], np.uint16), 1).tolist() == [[0, 9], [11, 64]]
    assert clip(np.full(3, 7, np.uint8), 0.1).tolist() == [7, 7, 7]
    assert Clip(sigmas=1).keeps_depth


@pytest.mark.parametrize("sigmas", ["0", "-1", "1001", "nan"])
def test_no_such_bounds(sigmas: str) -> None:
    with pytest.raises(ConditionError):
        chain(parse(f"clip(sigmas={sigmas})"))
