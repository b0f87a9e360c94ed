"""Scenes: the same pixels everywhere, exact and disjoint masks, art that training never sees."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featlink.starter.draws import Draws
from featlink.starter.folder import SIZES
from featlink.starter.scenes import Scene, SceneConfig, SceneObject, paste, scene
from featlink.starter.sprites import Part, sprites
from featlink.starter.styles import CATEGORIES, HELD_OUT_STYLE, STYLES, VALIDATION

PARTS: tuple[Part, ...] = ("train", "val", "held-out")
VARIED = SceneConfig("val", SIZES, crowds=0.5)
ROOT = Path(__file__).parents[2]
FIRST = {0: "a54802a529249db3", 1: "7a1b5b2ba5fbd682", 2: "03fbfceb23274eb8"}


def digest(made: Scene) -> str:
    told = [(thing.category_id, thing.artwork, thing.crowd) for thing in made.objects]
    return hashlib.sha256(made.image.tobytes() + made.owner.tobytes() + repr(told).encode()).hexdigest()[:16]


@pytest.mark.parametrize("seed", FIRST)
def test_the_first_scenes_never_change(seed: int) -> None:
    assert digest(scene(seed, VARIED)) == FIRST[seed]


def test_a_scene_does_not_depend_on_those_before_it() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_scenes import *; print(digest(scene(5, VARIED)))"
    apart = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert digest(scene(5, VARIED)) == apart.strip()


def test_draws_are_pcg64s_integers() -> None:
    """Against NumPy's own uniform doubles, which are the same 53 bits."""
    draws, reference = Draws(9), np.random.Generator(np.random.PCG64(9))
    assert [draws.uniform(0, 1) for _ in range(50)] == [reference.random() for _ in range(50)]
    dice = [draws.integer(1, 6) for _ in range(6000)]
    assert np.all(np.abs(np.bincount(dice, minlength=7)[1:] - 1000) < 150)
    assert draws.bytes(13).shape == (13,)


def test_masks_are_disjoint_and_large_enough() -> None:
    for seed in range(12):
        made = scene(seed, VARIED)
        masks = np.stack([made.mask(index) for index in range(len(made.objects))])
        assert masks.sum(0).max() <= 1
        assert masks.sum() == np.count_nonzero(made.owner)
        assert masks.sum((1, 2)).min() >= 60
        assert {thing.category_id for thing in made.objects} <= set(CATEGORIES)


def test_a_mask_is_exactly_what_is_seen_of_an_object() -> None:
    """Two overlapping squares and a rim, pasted on black: every pixel belongs to the colour that is on top there."""
    made = Scene(np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50), np.uint8))
    for number, (colour, corner) in enumerate([((200, 0, 0), (5, 5)), ((0, 0, 200), (15, -4))]):
        patch = np.zeros((20, 20, 4), np.uint8)
        patch[2:18, 2:18] = *colour, 255
        patch[1, 2:18] = *(value // 4 for value in colour), 63  # a rim that is mostly see-through is not the object
        paste(made, patch, *corner)
        made.objects.append(SceneObject(1 + number, "a", "a/b", crowd=False))
    assert np.array_equal(made.mask(0), made.image[..., 0] == 200)
    assert np.array_equal(made.mask(1), made.image[..., 2] == 200)
    assert made.mask(1).sum() == 16 * 14, "cut at the upper border"
    assert made.mask(0).sum() == 16 * 16 - 6 * 7


@pytest.mark.slow
def test_what_scenes_are_like_is_what_was_asked_for() -> None:
    scenes = [scene(seed, VARIED) for seed in range(60)]
    assert {made.owner.shape[::-1] for made in scenes} == set(SIZES)
    assert 15 <= sum(thing.crowd for made in scenes for thing in made.objects) <= 45
    heights = [
        np.ptp(np.nonzero(made.mask(index))[axis]) + 1
        for made in scenes
        for index, thing in enumerate(made.objects)
        for axis in (0, 1)
        if not thing.crowd
    ]
    assert min(heights) < 20
    assert max(heights) > 350
    assert all(made.image.dtype == np.uint8 and made.image.shape[:2] == made.owner.shape for made in scenes)


def test_no_art_is_on_two_sides() -> None:
    works = {
        part: {sprite.artwork for artworks in sprites(part).values() for own in artworks for sprite in own}
        for part in PARTS
    }
    assert works["val"] == VALIDATION
    assert {work.split("/")[0] for work in works["train"]} <= {style.family for style in STYLES}
    assert not works["train"] & works["val"]
    family = {style.name: style.family for style in STYLES}[HELD_OUT_STYLE]
    assert all(work.startswith(f"{family}/") for work in works["held-out"])
    assert not any(work.startswith(f"{family}/") for work in works["train"] | works["val"])


@pytest.mark.slow
def test_no_picture_is_on_two_sides() -> None:
    """The art itself, not only its name: no two sprites of different parts are nearly the same picture."""
    small = {}
    for part in PARTS:
        pictures = [s.levels[2] for artworks in sprites(part).values() for own in artworks for s in own]
        small[part] = np.stack([fitted(picture) for picture in pictures])
    for one, other in itertools.combinations(PARTS, 2):
        closest = min(np.abs(small[one] - picture).mean(axis=1).min() for picture in small[other])
        assert closest > 5, f"{one} and {other}"


def fitted(picture: np.ndarray) -> np.ndarray:
    """An RGBA picture on a 48×48 canvas, as a vector."""
    canvas = np.zeros((48, 48, 4), np.float32)
    canvas[: picture.shape[0], : picture.shape[1]] = picture[:48, :48]
    return canvas.ravel()


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_every_category(part: Part) -> None:
    assert list(sprites(part)) == sorted(CATEGORIES)
    for artworks in sprites(part).values():
        for own in artworks:
            for sprite in own:
                assert max(sprite.levels[0].shape) == 192
                assert np.all(sprite.levels[0][..., :3] <= sprite.levels[0][..., 3:]), "premultiplied"


def test_ten_scenes_a_second() -> None:
    config = SceneConfig("val")
    scene(0, config)
    start = time.process_time()
    for seed in range(20):
        scene(seed, config)
    assert time.process_time() - start < 2
