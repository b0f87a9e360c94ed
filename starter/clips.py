"""Synthetic clips: a seed becomes a moving scene, frame by frame, the same on every machine.

As in :mod:`featlink.starter.scenes`, pixels are computed in integers. Positions are in 1/1024 pixels, drawings and
backgrounds are sampled between pixels, and each frame has sensor noise of its own: without it, coding from frame to
frame would look better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from featlink.starter.backgrounds import background
from featlink.starter.draws import Draws
from featlink.starter.scenes import Picture, Scene, SceneConfig, SceneObject, exposure, paste, pick, posed, window
from featlink.starter.sprites import Part, Sprite

Motion = Literal["static", "pan", "handheld", "traffic"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)

LARGEST_FRAMES = 10**5
_ONE = 1024
"""Units of positions in a pixel."""
_STREAM, _NOISE_STREAM = 1 << 62, 1 << 63
"""What is added to seeds, so that no clip begins as a scene."""
_PAN_RANGE = 640
"""Pixels that a panning camera goes before it turns round."""
_SHAKE = 24
"""Pixels that a hand strays at most."""
_VEHICLES = (3, 6, 8)
_BYSTANDERS = (1, 10, 13, 18)


@dataclass(frozen=True)
class ClipConfig:
    """What a clip is like.

    Attributes:
        motion: ``static``: the camera stands, most objects move; ``pan``: it also turns at a constant rate;
            ``handheld``: it also shakes; ``traffic``: it stands at a street with lanes of cars, buses and trucks.
        frames: how many.
        part: sprites of which part of the split.
        size: (width, height) in pixels.
        noise: of the sensor; the rest of a clip is the same without it.
    """

    motion: Motion = "static"
    frames: int = 48
    part: Part = "val"
    size: tuple[int, int] = (640, 480)
    noise: bool = True


@dataclass(frozen=True)
class ClipFrame:
    """A frame and what it shows.

    Attributes:
        scene: the picture; an object of it may be hidden altogether.
        instances: of each object of the scene, its number in the clip, from 0.
    """

    scene: Scene
    instances: tuple[int, ...]


@dataclass(frozen=True)
class _Actor:
    """A drawing with its way through the world, in 1/1024 pixels.

    Attributes:
        patch: RGBA, premultiplied.
        sprite: what it is of.
        start: x and y of its upper left corner in the first frame.
        speed: across and down, in a frame.
        low, high: between which it goes, across and down.
        turns: goes to and fro; else it leaves, and comes anew at the other side as another.
    """

    patch: Picture
    sprite: Sprite
    start: tuple[int, int]
    speed: tuple[int, int]
    low: tuple[int, int]
    high: tuple[int, int]
    turns: bool = True

    def at(self, frame: int) -> tuple[int, int, int]:
        """x and y, and how often it has come anew."""
        x, y = (start + speed * frame for start, speed in zip(self.start, self.speed, strict=True))
        if not self.turns:
            laps, x = divmod(x - self.low[0], self.high[0] - self.low[0])
            return x + self.low[0], y, laps
        return _folded(x, self.low[0], self.high[0]), _folded(y, self.low[1], self.high[1]), 0


def clip(seed: int, config: ClipConfig = ClipConfig()) -> Iterator[ClipFrame]:
    """Draw a clip frame by frame; memory does not grow with their number.

    Args:
        seed: 0..2⁶² - 1; the same gives the same clip on every machine, and more frames begin with the same ones.
        config: what it is like.

    Example:
        >>> [frame.scene.image.shape for frame in clip(7, ClipConfig(frames=2))]
        [(480, 640, 3), (480, 640, 3)]
    """
    draws, noise = Draws(seed + _STREAM), Draws(seed + _NOISE_STREAM)
    width, height = config.size
    room = {"pan": (_PAN_RANGE, 2 * _SHAKE), "handheld": (2 * _SHAKE, 2 * _SHAKE)}.get(config.motion, (0, 0))
    world = (width + room[0], height + room[1])
    ground = background(draws, world[0] + 1, world[1] + 1)  # one more to interpolate with
    actors = _street(draws, config) if config.motion == "traffic" else _crowd(draws, config, world)
    levels = exposure(draws.integer(215, 265), draws.integer(-10, 10))
    strength = draws.integer(1, 5)
    for frame, (x, y) in zip(range(config.frames), _camera(draws, config.motion, room), strict=False):
        seen = window(ground, x >> 5, y >> 5, width, height)
        canvas = Scene(seen, np.zeros((height, width), np.uint8))
        numbers = []
        for number, actor in enumerate(actors):
            left, top, laps = actor.at(frame)
            _put(canvas, actor, left - x, top - y)
            numbers.append(number + laps * len(actors))
        canvas.image = cv2.LUT(canvas.image, levels)  # type: ignore[assignment]
        if config.noise:
            _add_noise(canvas.image, noise, strength)
        # Whoever drives to the left comes anew with a number below 0.
        yield ClipFrame(canvas, tuple(2 * n if n >= 0 else -2 * n - 1 for n in numbers))


def _folded(value: int, low: int, high: int) -> int:
    """Where something is that turns round at both ends.

    Example:
        >>> [_folded(x, 0, 3) for x in range(-1, 8)]
        [1, 0, 1, 2, 3, 2, 1, 0, 1]
    """
    if high <= low:
        return low
    place = (value - low) % (2 * (high - low))
    return low + min(place, 2 * (high - low) - place)


def _camera(draws: Draws, motion: Motion, room: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Upper left corner of what is seen, frame by frame, in 1/1024 pixels; without end."""
    speed = round(draws.uniform(1.0, 4.0) * _ONE), round(draws.triangular(0.3) * _ONE)
    start = draws.integer(0, room[0] * _ONE), room[1] * _ONE // 2
    drift, swing = [0, 0], [0, 0]
    frame = 0
    while True:
        if motion == "pan":
            yield tuple(_folded(start[i] + speed[i] * frame, 0, room[i] * _ONE) for i in (0, 1))  # type: ignore[misc]
        elif motion == "handheld":
            for i in (0, 1):  # pulled back to the middle, slowed down and pushed at random, plus a tremor
                swing[i] += round(draws.triangular(1.2) * _ONE) - drift[i] // 32 - swing[i] // 8
                drift[i] = min(max(drift[i] + swing[i], -_SHAKE * _ONE), _SHAKE * _ONE)
            tremor = [round(draws.triangular(0.6) * _ONE) for _ in (0, 1)]
            yield tuple(  # type: ignore[misc]
                min(max(room[i] * _ONE // 2 + drift[i] + tremor[i], 0), room[i] * _ONE) for i in (0, 1)
            )
        else:
            yield 0, 0
        frame += 1


def _crowd(draws: Draws, config: ClipConfig, world: tuple[int, int]) -> list[_Actor]:
    """Objects all over the world, the largest behind; one in four stands still."""
    scenery = SceneConfig(config.part)
    count = draws.integer(4, 8) * world[0] // config.size[0]
    sizes = sorted((24.0 * (260.0 / 24.0) ** draws.uniform(0.0, 1.0) for _ in range(count)), reverse=True)
    actors = []
    for size in sizes:
        sprite = pick(draws, scenery)
        patch = posed(draws, sprite, size)
        pace = 0.0 if draws.chance(0.25) else draws.uniform(0.3, 6.0)
        angle = draws.uniform(-math.pi, math.pi)
        speed = round(pace * math.cos(angle) * _ONE), round(pace * math.sin(angle) * _ONE / 2)
        low = (-patch.shape[1] * _ONE // 5, -patch.shape[0] * _ONE // 5)
        high = (world[0] * _ONE + 4 * low[0], world[1] * _ONE + 4 * low[1])
        start = (draws.integer(low[0], max(low[0], high[0])), draws.integer(low[1], max(low[1], high[1])))
        actors.append(_Actor(patch, sprite, start, speed, low, high))
    return actors


def _street(draws: Draws, config: ClipConfig) -> list[_Actor]:
    """Lanes of vehicles, the nearest in front, and a few who stand by."""
    width, height = config.size
    scenery = SceneConfig(config.part)
    actors = []
    for _ in range(draws.integer(1, 3)):
        sprite = pick(draws, scenery, draws.choice(_BYSTANDERS))
        patch = posed(draws, sprite, draws.uniform(0.08, 0.2) * width, upright=True)
        x, y = draws.integer(0, width - 1), round(0.3 * height) - patch.shape[0] // 2
        place = x * _ONE, y * _ONE
        actors.append(_Actor(patch, sprite, place, (0, 0), place, place))
    for lane in range(draws.integer(2, 4)):
        nearness = 1.0 + 0.35 * lane
        bottom = round(height * (0.45 + 0.16 * lane))
        pace = round(draws.uniform(3.0, 9.0) * nearness * _ONE) * (-1 if lane % 2 else 1)
        vehicles = []
        for _ in range(draws.integer(1, 3)):
            sprite = pick(draws, scenery, draws.choice(_VEHICLES))
            size = draws.uniform(0.1, 0.16) * nearness * width * (1.0 if sprite.category_id == _VEHICLES[0] else 1.4)
            vehicles.append((sprite, posed(draws, sprite, size, upright=True)))
        longest = max(patch.shape[1] for _, patch in vehicles)
        lap = (width + 2 * longest) * _ONE
        first = draws.integer(0, lap)
        for number, (sprite, patch) in enumerate(vehicles):  # evenly along the lane, so that none hits another
            start = first + number * lap // len(vehicles), (bottom - patch.shape[0]) * _ONE
            ends = (-longest * _ONE, start[1]), (lap - longest * _ONE, start[1])
            actors.append(_Actor(patch, sprite, start, (pace, 0), *ends, turns=False))
    return actors


def _put(canvas: Scene, actor: _Actor, x: int, y: int) -> None:
    """Paste an actor between pixels; its object is there even if nothing of it is seen."""
    height, width = canvas.owner.shape
    tall, wide = actor.patch.shape[:2]
    left, top = x // _ONE, y // _ONE
    if -wide <= left < width and -tall <= top < height:
        shifted = window(actor.patch, -((x % _ONE) >> 5), -((y % _ONE) >> 5), wide + 1, tall + 1)
        if left + wide + 1 > 0 and top + tall + 1 > 0:
            paste(canvas, shifted, left, top)
    sprite = actor.sprite
    canvas.objects.append(SceneObject(sprite.category_id, sprite.style, sprite.artwork, crowd=False))


def _add_noise(image: Picture, draws: Draws, strength: int) -> None:
    """Add what a sensor adds, anew for each frame: most of it to all three colours alike, in place."""
    grains = [_grain(draws, image.shape[:2]) for _ in range(4)]
    for channel in range(3):
        noise = ((grains[0] * 2 + grains[1 + channel]) * strength + 128) >> 8
        image[..., channel] = np.clip(image[..., channel] + noise, 0, 255)


def _grain(draws: Draws, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
    """Sums of two uniform draws, -255..255."""
    pair = draws.bytes(2 * shape[0] * shape[1]).reshape(2, *shape).astype(np.int16)
    return np.asarray(pair[0] + pair[1] - 255, np.int16)
