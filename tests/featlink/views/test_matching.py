"""Which detections are kept, lost and new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from featlink.views import LOST, NEW, difference, match, received_overlay, sheet


def found(x: float, label: int = 17, score: float = 0.9, side: float = 20) -> dict[str, Any]:
    return {"category_id": label, "bbox": [x, 10.0, side, side], "score": score}


def test_each_is_paired_once_with_what_overlaps_it_most() -> None:
    near, nearer = found(13), found(11)
    result = match([found(10)], [near, nearer])
    assert result.kept == [(found(10), nearer)]
    assert (result.lost, result.new) == ([], [near])


@pytest.mark.parametrize(
    ("after", "counts"),
    [
        ([found(10)], (1, 0, 0)),
        ([found(10, label=18)], (0, 1, 1)),  # another category
        ([found(18)], (0, 1, 1)),  # IoU of 0.43
        ([found(16)], (1, 0, 0)),  # IoU of 0.54
        ([found(10, score=0.4)], (0, 1, 0)),  # not shown
        ([found(10, side=0)], (0, 1, 1)),
        ([], (0, 1, 0)),
    ],
)
def test_what_counts_as_the_same(after: list[dict[str, Any]], counts: tuple[int, int, int]) -> None:
    result = match([found(10)], after)
    assert (len(result.kept), len(result.lost), len(result.new)) == counts


def test_marks_are_drawn_in_their_colours_and_the_picture_is_left_alone() -> None:
    grey = np.full((60, 120, 3), 128, np.uint8)
    drawn = received_overlay(grey, match([found(10)], [found(70)]), {"17": "cat"})
    for colour in (LOST, NEW):
        assert (drawn == colour).all(axis=2).any()
    assert (grey == 128).all()
    assert not (received_overlay(grey, match([found(10)], [found(10)]), {}) == LOST).all(axis=2).any()


def test_lost_rows_are_hatched() -> None:
    grey = np.full((60, 120, 3), 128, np.uint8)
    drawn = received_overlay(grey, match([], []), {}, [(0.5, 0.75)])
    changed = (drawn != grey).any(axis=2)
    assert np.flatnonzero(changed.any(axis=1)).tolist() == list(range(30, 45))
    assert 0.1 < changed[30:45].mean() < 0.5  # so that what is below can be seen
    assert (grey == 128).all()


def test_difference_shows_the_error_of_pixels() -> None:
    clean = np.full((60, 120, 3), 100, np.uint8)
    received = clean.copy()
    received[50, 100] = 110
    drawn = difference(clean, received, match([], []), {})
    assert drawn[50, 100].tolist() == [40, 40, 40]
    assert drawn[0, 0].tolist() == [0, 0, 0]


def test_a_sheet_holds_its_pictures_as_they_are() -> None:
    grey, colour = np.full((10, 30), 7, np.uint8), np.full((5, 200, 3), (1, 2, 3), np.uint8)
    made = sheet([[("a", grey), ("b", colour)], [("c", grey)]])
    assert made.dtype == np.uint8
    assert (made == 7).all(axis=2).sum() >= 2 * grey.size
    assert (made == (1, 2, 3)).all(axis=2).sum() == 5 * 200
