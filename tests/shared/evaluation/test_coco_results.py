"""Run-length codes from a part of the image are pycocotools' codes of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from featlink.shared.evaluation.coco import DetectionMask
from featlink.shared.evaluation.coco_results import compressed
from featlink.shared.models.detections import MaskPart
from featlink.shared.models.rle import runs_of_part


def encode(part: np.ndarray, top: int, left: int, size: tuple[int, int]) -> DetectionMask:
    return compressed(runs_of_part(MaskPart(part.astype(np.float32), top, left, size)), size)


@given(st.data())
def test_equal_to_pycocotools_to_the_last_character(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, height)] * 2)))
    left, right = sorted(data.draw(st.tuples(*[st.integers(0, width)] * 2)))
    density = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    part = rng.random((bottom - top, right - left)) < density
    whole = np.zeros((height, width), np.uint8, order="F")
    whole[top:bottom, left:right] = part
    expected = mask_api.encode(whole)
    assert encode(part, top, left, (height, width)) == {
        "size": [height, width],
        "counts": expected["counts"].decode(),
    }


@pytest.mark.parametrize("size", [(3000, 4000), (65535, 3)])
def test_large_images(size: tuple[int, int]) -> None:
    part = np.random.default_rng(1).random((70, 2)) < 0.5
    whole = np.zeros(size, np.uint8, order="F")
    whole[-70:, -2:] = part
    code = encode(part, size[0] - 70, size[1] - 2, size)
    assert code["counts"] == mask_api.encode(whole)["counts"].decode()


@given(st.lists(st.one_of(st.integers(1, 40), st.integers(1, 40_000_000)), min_size=1, max_size=20))
def test_runs_of_any_length(lengths: list[int]) -> None:
    total = sum(lengths)
    wanted = mask_api.frPyObjects({"size": [total, 1], "counts": lengths}, total, 1)
    assert compressed(np.array(lengths), (total, 1))["counts"] == wanted["counts"].decode()
