"""What is predicted: things that move, stand still or are new; both ends stay together; noise costs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cv2 import GaussianBlur

from featlink.channel.reduction.motion import ANEW, HEAD, MOVED, Prediction, Receiver, Sender, Sent
from featlink.channel.reduction.pca import Basis, Grid, gather, mapped
from featlink.shared.fpn import FPN

GRID = Grid.of(FPN)
CHANNELS = 2
CELL = 22 * CHANNELS
PLACES = (5, 7)
STEP = 0.25
MOST = 511


def orthonormal(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(size, size)))[0].astype(np.float32)


def fitted() -> Basis:
    """Two channels of each level, and every component of them."""
    rng = np.random.default_rng(3)
    both = {name: np.eye(CHANNELS, dtype=np.float32) for name in GRID.strides}
    nothing = {name: np.zeros(CHANNELS, np.float32) for name in GRID.strides}
    deviation = np.ones(4 * CELL, np.float32)
    worth = dict.fromkeys(GRID.strides, 1.0)
    return Basis(both, both, nothing, worth, orthonormal(rng, CELL), orthonormal(rng, 4 * CELL), deviation, "w", "m")


BASIS = fitted()
PREDICTION = Prediction(BASIS, STEP)


def world(seed: int) -> np.ndarray:
    """A smooth texture, larger than what is seen of it, float32 (C, H, W) in pixels."""
    noise = np.random.default_rng(seed).normal(size=(CHANNELS, 400, 460)).astype(np.float32)
    return np.stack([GaussianBlur(channel, (0, 0), 9) for channel in noise]) * 30


def seen(texture: np.ndarray, across: int = 0, down: int = 0) -> np.ndarray:
    """Components of what is seen of a world from a place in it."""
    height, width = (32 * side for side in PLACES)
    view = texture[:, 80 + down : 80 + down + height, 80 + across : 80 + across + width]
    levels = {
        name: view.reshape(CHANNELS, height // stride, stride, width // stride, stride).mean((2, 4))
        for name, stride in GRID.strides.items()
    }
    return mapped(BASIS.group.T, gather(mapped(BASIS.cell.T, GRID.join(levels)), 2))


def sent(frames: Iterator[np.ndarray], period: int = 1000) -> list[Sent]:
    sender = Sender(PREDICTION)
    return [sender.push(frame, number % period == 0, MOST) for number, frame in enumerate(frames)]


def received(frames: list[Sent], period: int = 1000, first: int = 0) -> list[np.ndarray]:
    receiver = Receiver(PREDICTION)
    return [receiver.push(frame, number % period == 0) for number, frame in enumerate(frames) if number >= first]


@pytest.mark.parametrize(("across", "down"), [(8, -4), (3, 0), (-2, 5), (-17, 11)])
def test_what_moves_is_found_and_costs_less_than_what_is_told_anew(across: int, down: int) -> None:
    texture = world(0)
    key, moved = sent(seen(texture, *place) for place in [(0, 0), (across, down)])
    modes, vectors = moved.head[0], np.zeros((2, *PLACES), int)
    for i, j in np.argwhere(modes == MOVED):  # vectors are told by their difference to the left or upper neighbour's
        left, up = j and modes[i, j - 1] == MOVED, i and modes[i - 1, j] == MOVED
        guess = vectors[:, i, j - 1] if left else vectors[:, i - 1, j] if up else 0
        vectors[:, i, j] = moved.head[1:, i, j] + guess
    inside = vectors[:, 1:-1, 1:-1][:, modes[1:-1, 1:-1] == MOVED]
    assert inside.shape[1] >= 10
    assert (np.abs(np.median(inside, 1) - [across, down]) <= 1).all()
    anew = sent(iter([seen(texture, across, down)]))[0]
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert np.count_nonzero(moved.rounded[inner]) < 0.4 * np.count_nonzero(anew.rounded[inner])
    *_, last = received([key, moved])
    assert np.abs(last - seen(texture, across, down)).max() < 2 * STEP


def test_noise_of_a_camera_that_stands_costs_next_to_nothing() -> None:
    rng, still = np.random.default_rng(1), seen(world(1))
    frames = sent(still + rng.normal(0, STEP / 4, still.shape).astype(np.float32) for _ in range(20))
    share = [np.count_nonzero(np.concatenate(frame)) / frame.rounded.size for frame in frames]
    assert share[0] > 0.3
    assert max(share[1:]) < 0.01


def test_what_has_nothing_to_do_with_the_last_frame_is_sent_anew() -> None:
    _, cut = sent(iter([seen(world(2)) * 4, seen(world(3))]))
    assert (cut.head[0] == ANEW).mean() > 0.5


def turning(count: int) -> Iterator[np.ndarray]:
    """A camera that goes round, at whole and at broken samples, with noise."""
    texture, rng = world(4), np.random.default_rng(5)
    for number in range(count):
        frame = seen(texture, *(round(60 * turn(number / 11)) for turn in (np.sin, np.cos)))
        yield frame + rng.normal(0, STEP / 4, frame.shape).astype(np.float32)


CODE = """
import hashlib, sys
import numpy as np
from tests.channel.reduction.test_motion import HEAD, Sent, received

samples = np.load(sys.argv[1])
print(hashlib.sha256(np.stack(received([Sent(one[:HEAD], one[HEAD:]) for one in samples])).tobytes()).hexdigest())
"""


def test_the_ends_do_not_drift_apart_in_300_frames_whatever_the_threads(tmp_path: Path) -> None:
    frames = sent(turning(300))
    exact = list(turning(300))
    errors = [np.abs(one - other).max() for one, other in zip(received(frames), exact, strict=True)]
    assert max(errors[1:]) < 2 * STEP  # of what the sender knows the receiver to have: half a step, and its rounding
    np.save(tmp_path / "samples.npy", np.stack([np.concatenate(frame) for frame in frames]))
    digests = {
        subprocess.run(
            [sys.executable, "-c", CODE, tmp_path / "samples.npy"],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1


def test_who_joins_is_right_after_one_period() -> None:
    frames = sent(turning(20), period=8)
    whole, joined = received(frames, 8), received(frames, 8, first=11)
    assert not np.array_equal(whole[15], joined[4])
    for late, early in zip(joined[5:], whole[16:], strict=True):
        np.testing.assert_array_equal(late, early)


def test_damage_is_no_error() -> None:
    rng = np.random.default_rng(6)
    receiver = Receiver(PREDICTION)
    for number in range(4):
        noise = rng.integers(-512, 512, (HEAD + 4 * CELL, *PLACES)).astype(np.int32)
        assert np.isfinite(receiver.push(Sent(noise[:HEAD], noise[HEAD:]), number == 0)).all()
