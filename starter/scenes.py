"""Synthetic scenes: a seed becomes a picture with its ground truth, the same on every machine.

All pixels are computed in integers (OpenCV's fixed-point ``remap`` and ``INTER_LINEAR_EXACT``, NumPy integers), and all
random numbers come from PCG64's uniform draws, so that no library's rounding or vectorisation can change a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from featlink.starter.backgrounds import background
from featlink.starter.draws import Draws
from featlink.starter.marks import Mark, add_marks
from featlink.starter.sprites import Part, Sprite, sprites

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_KEPT = 0.65
"""Share of an object's visible pixels that another one leaves when it is put on top."""
SMALLEST = 60
"""Visible pixels of the smallest object."""
_ATTEMPTS = 6
_MARKS = 1 << 40
"""Added to a scene's seed for its marks, which have draws of their own."""


@dataclass(frozen=True)
class SceneConfig:
    """What scenes are like.

    Attributes:
        part: sprites of which part of the split.
        sizes: (width, height) in pixels, one is drawn for each scene.
        objects: fewest and most objects of a scene; fewer where there is no room.
        object_size: smallest and largest longer side of an object in pixels, before it is stretched; its logarithm is
            uniform, which comes near COCO's sizes.
        crowds: probability of a crowd: 6 to 14 small objects of one category that overlap, one ``iscrowd`` annotation.
        recolour: probability that a sprite's hues are turned far, which makes colour a weak cue in training.
        marks: how many written marks are put beside the objects; all else stays as it is without.
    """

    part: Part = "train"
    sizes: Sequence[tuple[int, int]] = ((640, 480),)
    objects: tuple[int, int] = (3, 10)
    object_size: tuple[float, float] = (16.0, 400.0)
    crowds: float = 0.08
    recolour: float = 0.0
    marks: int = 0


@dataclass(frozen=True)
class SceneObject:
    """One annotation: an object, or a crowd.

    Attributes:
        category_id: COCO's.
        style: name of the emoji set; of a crowd, the first member's.
        artwork: of the sprite; of a crowd, the first member's.
        crowd: COCO's ``iscrowd``.
    """

    category_id: int
    style: str
    artwork: str
    crowd: bool


@dataclass
class Scene:
    """A picture and what it shows.

    Attributes:
        image: RGB uint8 (H, W, 3).
        owner: uint8 (H, W): 0 is background, ``k + 1`` a pixel where ``objects[k]`` is seen. Masks are thus disjoint.
        objects: the annotations.
        marks: written marks.
    """

    image: Picture
    owner: npt.NDArray[np.uint8]
    objects: list[SceneObject] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def mask(self, index: int) -> Mask:
        """Where ``objects[index]`` is seen: bool (H, W)."""
        seen: Mask = self.owner == index + 1
        return seen


def scene(seed: int, config: SceneConfig = SceneConfig()) -> Scene:
    """Compose one scene.

    Args:
        seed: any non-negative integer; the same gives the same scene on every machine.
        config: what scenes are like.

    Example:
        >>> scene(7).image.shape
        (480, 640, 3)
    """
    draws = Draws(seed)
    width, height = draws.choice(config.sizes)
    canvas = Scene(background(draws, width, height), np.zeros((height, width), np.uint8))
    smallest, largest = config.object_size
    largest = min(largest, 0.9 * max(width, height))
    count = draws.integer(*config.objects)
    sizes = sorted((smallest * (largest / smallest) ** draws.uniform(0.0, 1.0) for _ in range(count)), reverse=True)
    for size in sizes:
        _add_object(canvas, draws, config, size)
    if draws.chance(config.crowds):
        _add_crowd(canvas, draws, config)
    if config.marks:
        canvas.marks += add_marks(canvas.image, canvas.owner > 0, Draws(seed + _MARKS), config.marks)
    _photograph(canvas.image, draws)
    return canvas


def pick(draws: Draws, config: SceneConfig, category: int | None = None) -> Sprite:
    """Draw a sprite, of one category or any."""
    categories = sprites(config.part)
    artworks = categories[draws.choice(list(categories)) if category is None else category]
    return draws.choice(draws.choice(artworks))


def _add_object(canvas: Scene, draws: Draws, config: SceneConfig, size: float) -> None:
    sprite = pick(draws, config)
    patch = posed(draws, sprite, size, config.recolour)
    areas = np.bincount(canvas.owner.ravel(), minlength=len(canvas.objects) + 1)
    for _ in range(_ATTEMPTS):
        place = _place(canvas, draws, patch)
        if place is not None and _fits(canvas, areas, patch, *place):
            if draws.chance(0.5):
                _cast_shadow(canvas, draws, patch, *place)
            paste(canvas, patch, *place)
            canvas.objects.append(SceneObject(sprite.category_id, sprite.style, sprite.artwork, crowd=False))
            return


def _add_crowd(canvas: Scene, draws: Draws, config: SceneConfig) -> None:
    first = pick(draws, config)
    size = draws.uniform(1.5, 3.0) * config.object_size[0]
    members = [posed(draws, first, size, config.recolour)]
    for _ in range(draws.integer(5, 13)):
        sprite = pick(draws, config, first.category_id)
        members.append(posed(draws, sprite, size * draws.uniform(0.8, 1.25), config.recolour))
    height, width = canvas.owner.shape
    centre = draws.integer(0, width - 1), draws.integer(0, height - 1)
    areas = np.bincount(canvas.owner.ravel(), minlength=len(canvas.objects) + 2)
    places = []
    covered = canvas.owner.copy()
    for patch in members:
        x = centre[0] + round(draws.uniform(-2.0, 2.0) * size) - patch.shape[1] // 2
        y = centre[1] + round(draws.uniform(-1.0, 1.0) * size) - patch.shape[0] // 2
        x = min(max(x, 0), max(width - patch.shape[1], 0))
        y = min(max(y, 0), max(height - patch.shape[0], 0))
        places.append((x, y))
        _own(covered, patch, x, y, len(canvas.objects) + 1)
    if not _enough(areas[1:-1], np.bincount(covered.ravel(), minlength=len(areas))[1:-1]):
        return
    for patch, (x, y) in zip(members, places, strict=True):
        paste(canvas, patch, x, y)
    canvas.objects.append(SceneObject(first.category_id, first.style, first.artwork, crowd=True))


def posed(draws: Draws, sprite: Sprite, size: float, recolour: float = 0.0, upright: bool = False) -> Picture:
    """The sprite scaled, turned, stretched, mirrored and recoloured: RGBA, premultiplied.

    Args:
        draws: of the pose.
        sprite: the drawing.
        size: of the longer side in pixels, before it is stretched.
        recolour: probability that its hues are turned far.
        upright: leave it unturned and unstretched.
    """
    level = 0
    while level + 1 < len(sprite.levels) and size <= max(sprite.levels[level + 1].shape):
        level += 1
    source = _recoloured(draws, sprite.levels[level], recolour)
    scale = size / max(source.shape)
    stretch = 0.0 if upright else 0.25
    across = scale * math.exp(draws.triangular(stretch))
    along = scale * math.exp(draws.triangular(stretch))
    if draws.chance(0.5):
        across = -across
    angle = math.radians(draws.triangular(35.0)) if draws.chance(0.8) and not upright else 0.0
    shear = draws.triangular(0.0 if upright else 0.2)
    cos, sin = math.cos(angle), math.sin(angle)
    forward = ((cos * across, (cos * shear - sin) * along), (sin * across, (sin * shear + cos) * along))
    half = (source.shape[1] / 2, source.shape[0] / 2)
    width, height = (2 * math.ceil(abs(row[0]) * half[0] + abs(row[1]) * half[1]) + 1 for row in forward)
    determinant = forward[0][0] * forward[1][1] - forward[0][1] * forward[1][0]
    inverse = (
        (forward[1][1] / determinant, -forward[0][1] / determinant),
        (-forward[1][0] / determinant, forward[0][0] / determinant),
    )
    return _warped(source, inverse, width, height)


def _warped(source: Picture, inverse: tuple[tuple[float, float], ...], width: int, height: int) -> Picture:
    """Sample ``source`` about its centre by a matrix from target to source, in 16-bit fixed point."""
    one = 1 << 16
    columns = np.arange(width, dtype=np.int64)[None, :] * 2 - (width - 1)
    rows = np.arange(height, dtype=np.int64)[:, None] * 2 - (height - 1)
    maps = []
    for (across, along), length in zip(inverse, (source.shape[1], source.shape[0]), strict=True):
        centre = (length - 1) * one
        twice = round(across * one) * columns + round(along * one) * rows + centre
        maps.append((twice + (1 << 11)) >> 12)  # in 1/32 pixels: half of 16 bits, to 5 bits
    return _sampled(source, maps[0], maps[1])


def window(source: Picture, x: int, y: int, width: int, height: int) -> Picture:
    """Cut a window out, interpolated between pixels; beyond the border all is 0.

    Args:
        source: uint8 (H, W, channels).
        x: column of the window's left border, in 1/32 pixels.
        y: row of its upper border, in 1/32 pixels.
        width: of the window, in pixels.
        height: of the window, in pixels.
    """
    columns, rows = np.arange(width, dtype=np.int64) * 32 + x, np.arange(height, dtype=np.int64) * 32 + y
    return _sampled(source, *np.broadcast_arrays(columns[None, :], rows[:, None]))


def _sampled(source: Picture, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> Picture:
    """The source at places in 1/32 pixels, in fixed point."""
    whole = np.stack([x >> 5, y >> 5], axis=2).astype(np.int16)
    fraction = ((y & 31) * 32 + (x & 31)).astype(np.uint16)
    sampled = cv2.remap(source, whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(sampled, np.uint8)


def _recoloured(draws: Draws, source: Picture, far: float) -> Picture:
    """Turned hue, changed saturation, contrast and brightness: a linear map of premultiplied colours."""
    turn = draws.uniform(-math.pi, math.pi) if draws.chance(far) else draws.triangular(0.5)
    saturation = draws.uniform(0.6, 1.3)
    contrast = draws.uniform(0.7, 1.1)
    brightness = draws.triangular(0.15) + 0.5 * (1 - contrast)
    same = (1 + 2 * math.cos(turn)) / 3
    step = math.sin(turn) / math.sqrt(3)
    other = (1 - math.cos(turn)) / 3
    rotation = (
        (same, other - step, other + step),
        (other + step, same, other - step),
        (other - step, other + step, same),
    )
    weights = [
        [round(256 * contrast * (saturation * value + (1 - saturation) / 3)) for value in row] for row in rotation
    ]
    alpha = source[..., 3].astype(np.int32)
    red, green, blue = (source[..., channel].astype(np.int32) for channel in range(3))
    offset = round(256 * brightness) * alpha + 128
    result = np.empty_like(source)
    for channel, (r, g, b) in enumerate(weights):
        value = (r * red + g * green + b * blue + offset) >> 8
        result[..., channel] = np.clip(value, 0, alpha)
    result[..., 3] = source[..., 3]
    return result


def _place(canvas: Scene, draws: Draws, patch: Picture) -> tuple[int, int] | None:
    """Upper left corner of the patch; a fifth of it may lie outside the picture."""
    height, width = canvas.owner.shape
    tall, wide = patch.shape[:2]
    corner = []
    for room, extent in ((width, wide), (height, tall)):
        slack = extent // 5
        low, high = -slack, room - extent + slack
        if low > high:
            return None
        corner.append(draws.integer(low, high))
    return corner[0], corner[1]


def _window(owner: npt.NDArray[np.uint8], patch: Picture, x: int, y: int) -> tuple[slice, slice, Picture]:
    """Where the patch meets the canvas: rows and columns of the canvas, and that part of the patch."""
    height, width = owner.shape
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + patch.shape[0], height), min(x + patch.shape[1], width)
    return slice(top, bottom), slice(left, right), patch[top - y : bottom - y, left - x : right - x]


def _fits(canvas: Scene, areas: npt.NDArray[np.int64], patch: Picture, x: int, y: int) -> bool:
    """Whether the patch is seen enough, and leaves enough of every object it covers."""
    rows, columns, seen = _window(canvas.owner, patch, x, y)
    opaque = seen[..., 3] > 127
    if np.count_nonzero(opaque) < SMALLEST:
        return False
    lost = np.bincount(canvas.owner[rows, columns][opaque], minlength=len(areas))
    return _enough(areas[1:], areas[1:] - lost[1:])


def _enough(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> bool:
    """Whether every object that loses pixels keeps enough of them."""
    return not np.any((after < before) & (after < np.maximum(_KEPT * before, SMALLEST)))


def _own(owner: npt.NDArray[np.uint8], patch: Picture, x: int, y: int, number: int) -> None:
    rows, columns, seen = _window(owner, patch, x, y)
    owner[rows, columns][seen[..., 3] > 127] = number


def paste(canvas: Scene, patch: Picture, x: int, y: int) -> None:
    """Put a patch on top; where it is more opaque than not, the pixels are those of the object added next.

    Args:
        canvas: is changed.
        patch: RGBA uint8 (h, w, 4), premultiplied.
        x: column of its upper left corner; it may lie outside the canvas in part.
        y: row of it.
    """
    rows, columns, seen = _window(canvas.owner, patch, x, y)
    under = canvas.image[rows, columns].astype(np.uint16)
    through = (255 - seen[..., 3:]).astype(np.uint16)
    canvas.image[rows, columns] = (seen[..., :3] + (under * through + 127) // 255).astype(np.uint8)
    _own(canvas.owner, patch, x, y, len(canvas.objects) + 1)


def _cast_shadow(canvas: Scene, draws: Draws, patch: Picture, x: int, y: int) -> None:
    """Darkens what lies under a blurred copy of the patch's outline."""
    tall, wide = patch.shape[:2]
    margin = 8
    outline = cv2.copyMakeBorder(patch[..., 3], margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    coarse = (max(1, outline.shape[1] // 6), max(1, outline.shape[0] // 6))
    small = cv2.resize(outline, coarse, interpolation=cv2.INTER_LINEAR_EXACT)
    soft = cv2.resize(small, (outline.shape[1], outline.shape[0]), interpolation=cv2.INTER_LINEAR_EXACT)
    shift = round(draws.triangular(0.08) * wide), round(draws.uniform(0.0, 0.1) * tall)
    rows, columns, seen = _window(
        canvas.owner, np.asarray(soft, np.uint8)[..., None], x - margin + shift[0], y - margin + shift[1]
    )
    strength = draws.integer(40, 130)
    light = 65280 - seen.astype(np.uint32) * strength
    canvas.image[rows, columns] = ((canvas.image[rows, columns] * light + 32768) >> 16).astype(np.uint8)


def exposure(gain: int, bias: int) -> Picture:
    """A map of grey values: uint8 (256,).

    Args:
        gain: in 1/256.
        bias: what is added.
    """
    return np.asarray(np.clip(((np.arange(256) * gain + 128) >> 8) + bias, 0, 255), np.uint8)


def _photograph(image: Picture, draws: Draws) -> None:
    """Exposure, slight blur and sensor noise, in place."""
    if draws.chance(0.3):
        image[:] = cv2.GaussianBlur(image, (3, 3), 0)  # bit-exact for uint8
    image[:] = cv2.LUT(image, exposure(draws.integer(205, 275), draws.integer(-12, 12)))
    strength = draws.integer(0, 10)
    if strength:
        # The sum of two uniform draws; one tile of noise serves the whole picture, shifted for each channel.
        noise = draws.bytes(image.shape[0] * image.shape[1] * 2).reshape(2, *image.shape[:2]).astype(np.int16)
        grain = ((noise[0] + noise[1] - 255) * strength) >> 7
        for channel in range(3):
            rolled = np.roll(grain, (channel * 7, channel * 13), (0, 1))
            image[..., channel] = np.clip(image[..., channel] + rolled, 0, 255)
