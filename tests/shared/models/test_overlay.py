"""The picture with the detections drawn on it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from featlink.shared.models.overlay import draw

GREY = np.full((60, 80, 3), 100, np.uint8)


def drawn(*detections: dict[str, Any], threshold: float = 0.5) -> np.ndarray:
    png = draw(GREY, detections, {"1": "person"}, threshold)
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        return np.asarray(picture)


def detection(score: float = 0.9, bbox: tuple[float, ...] = (20, 30, 40, 20), **more: Any) -> dict[str, Any]:
    return {"category_id": 1, "score": score, "bbox": list(bbox), **more}


def test_a_picture_without_detections_comes_back_as_it_is() -> None:
    np.testing.assert_array_equal(drawn(), GREY)


def test_the_box_is_drawn_where_it_is() -> None:
    changed = (drawn(detection()) != GREY).any(axis=2)
    assert changed[50, 20:60].all()
    assert changed[30:50, 20].all()
    assert changed[30:50, 60].all()
    assert not changed[32:48, 22:58].any(), "the inside stays"


def test_the_mask_is_tinted_in_one_colour_and_nothing_else_is() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[35:45, 30:50] = 1
    segmentation = rle.encode(np.asfortranarray(mask))
    with_mask, without = drawn(detection(segmentation=segmentation)), drawn(detection())
    inside = with_mask[36:44, 31:49]
    assert (inside == inside[0, 0]).all()
    assert (inside[0, 0] != GREY[0, 0]).any()
    np.testing.assert_array_equal(with_mask[mask == 0], without[mask == 0])


def test_low_scores_are_left_out() -> None:
    np.testing.assert_array_equal(drawn(detection(0.49)), GREY)
    assert (drawn(detection(0.5)) != GREY).any()
    assert (drawn(detection(0.05), threshold=0.05) != GREY).any()


def test_categories_have_colours_of_their_own() -> None:
    colours = {drawn({**detection(), "category_id": category})[50, 40].tobytes() for category in range(1, 20)}
    assert len(colours) == 19


@pytest.mark.parametrize("bbox", [(-30, -30, 300, 300), (79.6, 59.6, 0, 0), (0, 0, 1e-9, 1e-9), (0.5, 0.5, 79, 1)])
def test_boxes_at_and_beyond_the_border_are_drawn(bbox: tuple[float, ...]) -> None:
    assert drawn(detection(bbox=bbox)).shape == GREY.shape


def test_the_picture_given_is_not_written_to() -> None:
    before = GREY.copy()
    drawn(detection())
    np.testing.assert_array_equal(GREY, before)


def test_text_forms_of_masks_and_unnamed_categories_are_drawn() -> None:
    segmentation = rle.encode(np.asfortranarray(np.ones((60, 80), np.uint8)))
    segmentation["counts"] = segmentation["counts"].decode()
    unnamed = {**detection(segmentation=segmentation), "category_id": 77}
    assert (drawn(unnamed) != GREY).any(axis=2).all()


def test_a_label_at_the_right_edge_is_whole() -> None:
    wide = np.full((60, 300, 3), 100, np.uint8)

    def label(x: float) -> np.ndarray:
        png = draw(wide, [detection(bbox=(x, 40, 5, 5))], {"1": "person"})
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            rows = np.asarray(picture)[:39]
        columns = np.flatnonzero((rows != 100).any(axis=(0, 2)))
        found: np.ndarray = rows[:, columns[0] : columns[-1] + 1]
        return found

    np.testing.assert_array_equal(label(290), label(20))
