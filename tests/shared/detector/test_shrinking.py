"""Resizing from some of the pixels gives torchvision's own result, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from shared.detector.shrinking import normalized_and_resized, source_lines


def transform(min_size: int, max_size: int) -> GeneralizedRCNNTransform:
    return GeneralizedRCNNTransform(min_size, max_size, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).eval()


def check(height: int, width: int, min_size: int, max_size: int) -> float:
    """Compare; the share of rows that were needed."""
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = transform(min_size, max_size)
    expected, _ = whole([torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float().div(255)])
    resized = expected.image_sizes[0]
    found = normalized_and_resized(whole, pixels, resized)
    assert torch.equal(found, expected.tensors[0, :, : resized[0], : resized[1]])
    return len(source_lines(height, resized[0])) / height


@pytest.mark.parametrize("size", [(1500, 2000), (3000, 2000), (4032, 3024), (2999, 1777), (20, 4000), (4000, 20)])
def test_large_pictures(size: tuple[int, int]) -> None:
    share = check(*size, 320, 533)
    assert share < 0.5 or min(size) == 20


@settings(max_examples=60)
@given(st.integers(1, 700), st.integers(1, 300), st.integers(1, 200), st.integers(0, 100))
def test_any_picture(height: int, width: int, min_size: int, more: int) -> None:
    smaller = min((min_size + more) / max(height, width), min_size / min(height, width))
    if min(int(height * smaller), int(width * smaller)) >= 1:
        check(height, width, min_size, min_size + more)


def test_pixels_that_are_not_needed_are_not_read() -> None:
    rows, columns, resized = 600, 800, (80, 70)
    values = torch.full((1, 1, rows, columns), torch.nan)
    values[0, 0][np.ix_(source_lines(rows, resized[0]), source_lines(columns, resized[1]))] = 1
    found = torch.nn.functional.interpolate(values, size=resized, mode="bilinear", align_corners=False)
    assert bool((found == 1).all())
