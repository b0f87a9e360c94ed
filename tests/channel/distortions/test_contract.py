"""What holds for every distortion."""

from __future__ import annotations

import numpy as np
import pytest

from featlink.channel.distortions.base import Distortion, Planes
from featlink.channel.randomness import stream
from featlink.shared.conditions.registry import steps
from featlink.shared.frames.bitstream import dtype_for

DISTORTIONS = {name: step for name, step in steps().items() if issubclass(step, Distortion)}
PARAMETERS = {
    "gaussian_blur": {"sigma": 2.0},
    "gaussian_noise": {"sigma": 40.0},
    "resize": {"factor": 4},
    "packet_loss": {"rate": 0.3, "mtu": 64, "conceal": "mean"},
    "bit_error": {"ber": 0.05},
    "rank_shuffle": {"span": 1000},
    "monotone": {"gamma": 0.5},
    "clip": {"sigmas": 1.5},
}
RANDOM = ["gaussian_noise", "packet_loss", "bit_error", "rank_shuffle"]
ONE_TILED_PLANE, CHANNELS, IMAGE, PIXEL = (1, 48, 80), (256, 3, 5), (3, 17, 23), (1, 1, 1)


def planes(shape: tuple[int, int, int], bits: int) -> Planes:
    samples = np.random.default_rng(0).integers(0, 1 << bits, shape).astype(dtype_for(bits))
    samples.flags.writeable = False  # as what was read from the wire
    return Planes(samples, bits, np.array([[-1, 3]], np.float32))


@pytest.mark.parametrize("bits", [1, 5, 8, 10, 16])
@pytest.mark.parametrize("shape", [ONE_TILED_PLANE, CHANNELS, IMAGE, PIXEL])
@pytest.mark.parametrize("name", PARAMETERS)
def test_pure_and_the_stream_alone_decides(name: str, shape: tuple[int, int, int], bits: int) -> None:
    distortion = DISTORTIONS[name].model_validate(PARAMETERS[name])
    clean = planes(shape, bits)
    before = clean.samples.tobytes()
    first, second = (distortion.apply(clean, stream(7, "p2")) for _ in range(2))
    assert clean.samples.tobytes() == before
    assert first.samples.tobytes() == second.samples.tobytes()
    assert first.samples.shape == shape
    assert first.samples.dtype == dtype_for(bits)
    assert first.samples.max() < 1 << bits
    assert (first.bits, first.ranges) == (clean.bits, clean.ranges)


@pytest.mark.parametrize("name", RANDOM)
def test_another_stream_is_another_result(name: str) -> None:
    distortion = DISTORTIONS[name].model_validate(PARAMETERS[name])
    clean = planes(IMAGE, 8)
    one, other = (distortion.apply(clean, stream(7, level)).samples for level in ("p2", "p3"))
    assert (one != other).any()


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name not in RANDOM])
def test_no_stream_matters_to_what_is_not_random(name: str) -> None:
    distortion = DISTORTIONS[name].model_validate(PARAMETERS[name])
    one, other = (distortion.apply(planes(IMAGE, 8), stream(7, level)).samples for level in ("p2", "p3"))
    assert (one == other).all()


def test_what_is_random_says_so() -> None:
    assert {name for name in PARAMETERS if DISTORTIONS[name].random} == set(RANDOM)
