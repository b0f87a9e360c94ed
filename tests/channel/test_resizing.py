"""Pictures are resized from the rows that are needed as OpenCV resizes them whole, bit for bit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink.channel.transmit import resized, source_rows

SIDES = st.tuples(st.integers(1, 400), st.integers(1, 90))


def check(shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(shape[0]).integers(0, 256, (3, *shape), np.uint8)
    whole = [cv2.resize(plane.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) for plane in pixels]
    np.testing.assert_array_equal(resized(pixels, size), np.stack(whole))


@given(SIDES, SIDES)
def test_any_size(shape: tuple[int, int], size: tuple[int, int]) -> None:
    check(shape, size)


@pytest.mark.parametrize("shape", [(3000, 4000), (6000, 2000), (5999, 331)])
@pytest.mark.parametrize("size", [(320, 427), (800, 1066)])
def test_photos(shape: tuple[int, int], size: tuple[int, int]) -> None:
    check(shape, size)


def test_rows_that_are_not_needed_are_not_read() -> None:
    plane = np.full((6000, 40), np.nan, np.float32)
    plane[source_rows(6000, 800)] = 1
    assert (cv2.resize(plane, (20, 800), interpolation=cv2.INTER_LINEAR) == 1).all()
