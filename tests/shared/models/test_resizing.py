"""Resizing from the pixels that are needed gives torchvision's own result, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from featlink.shared.models.interpolation import _resize, normalized_and_resized


def transform(min_size: int, max_size: int) -> GeneralizedRCNNTransform:
    return GeneralizedRCNNTransform(min_size, max_size, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).eval()


def check(height: int, width: int, min_size: int, max_size: int) -> None:
    """Compare, whichever way the picture lies in memory."""
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = transform(min_size, max_size)
    expected, _ = whole([torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float().div(255)])
    resized = expected.image_sizes[0]
    rows = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    for picture in (pixels, rows, np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]):
        found = normalized_and_resized(whole, picture, resized)
        assert torch.equal(found, expected.tensors[0, :, : resized[0], : resized[1]])


@pytest.fixture(autouse=True, params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """torch interpolates three channels otherwise where it has one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1500, 2000), (3000, 2000), (4032, 3024), (2999, 1777), (20, 4000), (4000, 20)])
def test_large_pictures(size: tuple[int, int]) -> None:
    check(*size, 320, 533)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 700), st.integers(1, 300), st.integers(1, 200), st.integers(0, 100))
def test_any_picture(height: int, width: int, min_size: int, more: int) -> None:
    smaller = min((min_size + more) / max(height, width), min_size / min(height, width))
    if min(int(height * smaller), int(width * smaller)) >= 1:
        check(height, width, min_size, min_size + more)


def test_without_a_known_arithmetic_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featlink.shared.models.interpolation.fused", lambda *_: None)
    check(300, 400, 240, 320)


def test_a_read_only_picture_compiles_nothing() -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    normalized_and_resized(transform(240, 320), pixels, (240, 320))
    compiled = len(_resize.signatures)
    pixels.flags.writeable = False
    normalized_and_resized(transform(240, 320), pixels, (240, 320))
    assert len(_resize.signatures) == compiled == 1
