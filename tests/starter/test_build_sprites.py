"""Drawings without colours are painted; the rest of the script is judged by its result in the package."""

import numpy as np

from starter.build_sprites import _painted


def test_paper_fills_what_outlines_enclose() -> None:
    ring = np.zeros((20, 20, 4), np.uint8)
    ring[2:18, 2:18, 3] = 255
    ring[6:14, 6:14, 3] = 0
    painted = _painted(ring, ink=(10, 20, 30), paper=(200, 210, 220))
    assert painted[4, 4].tolist() == [30, 20, 10, 255]  # OpenCV's order
    assert painted[10, 10].tolist() == [220, 210, 200, 255]
    assert not painted[0, 0, 3]
    assert not painted[19, 10, 3]


def test_a_drawing_may_touch_the_border() -> None:
    full = np.full((8, 8, 4), 255, np.uint8)
    assert np.all(_painted(full, ink=(1, 2, 3), paper=(4, 5, 6))[..., 3] == 255)
