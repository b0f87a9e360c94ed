"""Procedural backgrounds in integer arithmetic."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from featlink.starter.draws import Draws

Picture = npt.NDArray[np.uint8]


def background(draws: Draws, width: int, height: int) -> Picture:
    """A gradient, a horizon, a pattern or a plain colour, with cloudy noise and shapes that are no objects.

    Returns:
        RGB uint8 (height, width, 3).
    """
    # Computed at half the size: backgrounds are smooth but for the shapes, which are drawn at the full size.
    half = ((width + 1) // 2, (height + 1) // 2)
    kind = draws.integer(0, 3)
    if kind == 0:
        image = _stretched(draws.bytes(12).reshape(2, 2, 3), *half)
    elif kind == 1:
        image = _horizon(draws, *half)
    elif kind == 2:
        image = _pattern(draws, *half)
    else:
        image = np.broadcast_to(draws.bytes(3), (half[1], half[0], 3))
    clouded = _clouded(draws, image)
    full = np.asarray(cv2.resize(clouded, (width, height), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
    for _ in range(draws.integer(0, 7)):
        _add_shape(draws, full)
    return full


def _stretched(small: Picture, width: int, height: int) -> Picture:
    """Enlarged bilinearly so that the outermost pixels reach the border."""
    margin = (width // max(small.shape[1] - 1, 1) + 1, height // max(small.shape[0] - 1, 1) + 1)
    big = (width + margin[0], height + margin[1])
    enlarged = cv2.resize(small, big, interpolation=cv2.INTER_LINEAR_EXACT)
    left, top = margin[0] // 2, margin[1] // 2
    return np.asarray(enlarged[top : top + height, left : left + width], np.uint8)


def _mixed(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], share: npt.NDArray[np.integer]) -> Picture:
    """``share`` of 0..256 of the second colour."""
    share = share.astype(np.int32)[..., None]
    return ((first.astype(np.int32) * (256 - share) + second.astype(np.int32) * share + 128) >> 8).astype(np.uint8)


def _horizon(draws: Draws, width: int, height: int) -> Picture:
    sky, ground = draws.bytes(3), draws.bytes(3)
    knots = draws.bytes(draws.integer(2, 9)).reshape(1, -1)
    swing = _stretched(knots, width, 1)[0].astype(np.int32)
    line = draws.integer(height * 3 // 10, height * 8 // 10) + ((swing - 128) * draws.integer(0, height // 6)) // 128
    softness = draws.integer(1, 12)
    share = np.clip((np.arange(height)[:, None] - line) * 256 // softness, 0, 256)
    return _mixed(sky, ground, share)


def _pattern(draws: Draws, width: int, height: int) -> Picture:
    """Stripes or checks, sharp or soft."""
    first = draws.bytes(3)
    other = np.clip(first.astype(np.int32) + [draws.integer(-80, 80) for _ in range(3)], 0, 255).astype(np.uint8)
    angle, period = draws.uniform(0.0, math.pi), draws.uniform(4.0, 40.0)
    step = (round(math.cos(angle) / period * 65536), round(math.sin(angle) / period * 65536))
    columns, rows = np.arange(width, dtype=np.int32)[None, :], np.arange(height, dtype=np.int32)[:, None]
    hardness = draws.integer(1, 8)

    def wave(x: int, y: int) -> npt.NDArray[np.int32]:
        phase = (columns * x + rows * y) & 65535
        triangle = np.abs(phase - 32768) - 16384  # ±16384
        clipped: npt.NDArray[np.int32] = np.clip(triangle * hardness // 64, -256, 256)
        return clipped

    value = wave(*step)
    if draws.chance(0.4):
        value = value * wave(-step[1], step[0]) // 256
    return _mixed(first, other, (value + 256) // 2)


def _clouded(draws: Draws, image: Picture) -> Picture:
    height, width = image.shape[:2]
    total = image.astype(np.int32)
    strength = draws.integer(10, 70)
    for octave in range(draws.integer(1, 4)):
        cells = 2 ** (octave + 1) + 1
        grid = draws.bytes(cells * cells * 3).reshape(cells, cells, 3)
        if draws.chance(0.4):
            grid = np.repeat(grid[..., :1], 3, axis=2)
        clouds = _stretched(np.ascontiguousarray(grid), width, height).astype(np.int32)
        total += ((clouds - 128) * strength) >> 8
        strength = strength * draws.integer(5, 9) // 10
    grey = total.sum(axis=2, keepdims=True) // 3
    colourful = draws.integer(40, 256)
    clouded: Picture = np.clip(grey + ((total - grey) * colourful >> 8), 0, 255).astype(np.uint8)
    return clouded


def _add_shape(draws: Draws, image: Picture) -> None:
    """A polygon or an ellipse, perhaps see-through, so that not every edge belongs to an object."""
    height, width = image.shape[:2]
    reach = draws.integer(6, max(8, height // 3))
    centre = draws.integer(0, width - 1), draws.integer(0, height - 1)
    left, top = max(centre[0] - reach, 0), max(centre[1] - reach, 0)
    window = image[top : centre[1] + reach + 1, left : centre[0] + reach + 1]
    middle = centre[0] - left, centre[1] - top
    if draws.chance(0.4):
        inside = _ellipse(
            window.shape[0], window.shape[1], middle, reach, max(2, round(reach * draws.uniform(0.3, 1.0)))
        )
    else:
        angles = sorted(draws.uniform(0.0, 2 * math.pi) for _ in range(draws.integer(3, 7)))
        radii = [reach * draws.uniform(0.4, 1.0) for _ in angles]
        corners = [
            (middle[0] + round(radius * math.cos(angle)), middle[1] + round(radius * math.sin(angle)))
            for radius, angle in zip(radii, angles, strict=True)
        ]
        inside = _polygon(window.shape[0], window.shape[1], corners)
    window[:] = _mixed(window, draws.bytes(3), inside.astype(np.int32) * draws.integer(80, 256))


def _ellipse(height: int, width: int, middle: tuple[int, int], across: int, down: int) -> npt.NDArray[np.bool_]:
    x, y = np.arange(width)[None, :] - middle[0], np.arange(height)[:, None] - middle[1]
    inside: npt.NDArray[np.bool_] = (x * down) ** 2 + (y * across) ** 2 <= (across * down) ** 2
    return inside


def _polygon(height: int, width: int, corners: list[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Even-odd rule in integers; ``cv2.fillPoly`` fills other pixels in other versions."""
    inside = np.zeros((height, width), np.bool_)
    x = np.arange(width)[None, :]
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        (x1, y1), (x2, y2) = sorted([(x1, y1), (x2, y2)], key=lambda corner: corner[1])
        first, last = (min(max(y, 0), height) for y in (y1, y2))
        y = np.arange(first, last)[:, None]
        inside[first:last] ^= (x - x1) * (y2 - y1) < (x2 - x1) * (y - y1)
    return inside
