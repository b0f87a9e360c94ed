"""The pieces of the script; the whole of it is judged by its result in the package."""

import cv2
import numpy as np
import pytest

from featlink.starter.styles import HELD_OUT_STYLE, STYLES, VALIDATION, Style
from training.build_sprites import SIZE, _decoded, _part, _pictures, _trim


def square(side: int, colour: int) -> np.ndarray:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[8 : 8 + side, 8 : 8 + side] = (colour, colour, colour, 255)
    return picture


def test_a_set_may_use_one_picture_for_two_names() -> None:
    style = Style("set", "package", "set", names={"motor-boat": "engine-boat"}, without=frozenset({"ship"}))
    drawn = {"speedboat": square(10, 9), "engine-boat": square(10, 9), "ferry": square(30, 99), "ship": square(5, 1)}
    assert len(_pictures(drawn.get, style, ["speedboat", "motor-boat", "ferry", "ship", "absent"])) == 2


def test_sprites_are_cropped_to_what_is_opaque_and_scaled() -> None:
    wide = np.zeros((50, 100, 4), np.uint8)
    wide[20:30, 10:50] = 255
    assert _trim(wide).shape == (SIZE // 4, SIZE, 4)
    assert np.all(_trim(wide) == 255)


def test_pictures_without_transparency_are_refused() -> None:
    _, data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="alpha"):
        _decoded(data.tobytes())


def test_the_part_follows_from_style_and_artwork() -> None:
    styles = {style.name: style for style in STYLES}
    assert "noto/banana" in VALIDATION
    assert _part(styles["noto"], "noto/banana") == "val"
    assert _part(styles["noto"], "noto/pizza") == "train"
    assert _part(styles[HELD_OUT_STYLE], f"{HELD_OUT_STYLE}/pizza") == "held-out"
