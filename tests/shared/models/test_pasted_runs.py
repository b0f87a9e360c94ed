"""Runs of masks that are not laid out are those of torchvision's masks, coded by pycocotools."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api
from torchvision.models.detection.roi_heads import paste_masks_in_image

from featlink.shared.evaluation.coco_results import compressed
from featlink.shared.models.masks import PastedMasks

HALF = np.float32(0.5)


def smooth(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Like a mask head's: a blob with an outline."""
    y, x = np.mgrid[:28, :28]
    distance = np.hypot((y - rng.uniform(5, 22)) * rng.uniform(0.3, 2), (x - rng.uniform(5, 22)) * rng.uniform(0.3, 2))
    return np.asarray(1 / (1 + np.exp((distance - rng.uniform(1, 14)) * rng.uniform(0.2, 3))))


KINDS = {
    "noise": lambda rng: rng.random((28, 28)),
    "smooth": smooth,
    "empty": lambda _: np.zeros((28, 28)),
    "full": lambda _: np.ones((28, 28)),
    "half everywhere": lambda _: np.full((28, 28), 0.5),
    "about half": lambda rng: 0.5 + rng.normal(0, 10.0 ** -rng.integers(2, 9), (28, 28)),
    "next to half": lambda rng: np.nextafter(HALF, rng.choice([0, 0.5, 1], (28, 28)).astype(np.float32)),
    "few values": lambda rng: rng.choice([0, 0.25, 0.5, 0.75, 1], (28, 28)),
    "not a number": lambda rng: np.where(rng.random((28, 28)) < 0.05, np.nan, rng.random((28, 28))),
}


def check(mask: npt.NDArray[np.float32], box: npt.NDArray[np.float32], size: tuple[int, int]) -> None:
    masks, boxes = torch.from_numpy(mask)[None, None], torch.from_numpy(box)[None]
    whole = paste_masks_in_image(masks, boxes, size)[0, 0].numpy()
    wanted = mask_api.encode(np.asfortranarray((whole > 0.5).astype(np.uint8)))
    found = PastedMasks(masks, boxes, size)
    assert compressed(found.runs(0), found.size) == {"size": list(size), "counts": wanted["counts"].decode()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), clamped=st.booleans())
def test_any_box(kind: str, seed: int, clamped: bool) -> None:
    """Within the image as postprocess has them, and reaching beyond it on any side."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 700)), int(rng.integers(1, 700))
    extent = np.array([size[1], size[0]])
    first = rng.uniform(-0.3, 0.9, 2)
    corners = np.stack([first, rng.uniform(first.clip(0), 1.3)]) * extent
    if clamped:
        corners = corners.clip(0, extent)
    check(KINDS[kind](rng).clip(0, 1).astype(np.float32), corners.reshape(4).astype(np.float32), size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 0),
        (40, 50, 40, 50),
        (3, 2, 3.4, 398),
        (2, 3, 498, 3.4),
        (0, 0, 500, 400),
        (-90, -90, 600, 500),
        (100, 0, 160, 400),
        (0, 100, 500, 160),
        (10, 10, 38, 390),
        (100.5, 100.5, 101, 399.99),
    ],
)
def test_odd_boxes(kind: str, box: tuple[float, ...]) -> None:
    """Of no size, thin, as large as the image and larger, as wide as the mask itself."""
    for seed in range(5):
        mask = KINDS[kind](np.random.default_rng(seed)).clip(0, 1).astype(np.float32)
        check(mask, np.array(box, np.float32), (400, 500))


def test_a_box_outside_of_the_image_holds_nothing() -> None:
    """torchvision fails there."""
    found = PastedMasks(torch.ones(1, 1, 28, 28), torch.tensor([[-300.0, 10, -200, 390]]), (400, 500))
    assert found.runs(0).tolist() == [400 * 500]


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_photo(kind: str) -> None:
    mask = KINDS[kind](np.random.default_rng(1)).clip(0, 1).astype(np.float32)
    check(mask, np.array([310.7, 95.2, 3900.1, 2800.3], np.float32), (3000, 4000))


@pytest.mark.parametrize("how", ["no known arithmetic", "known"])
def test_without_a_known_arithmetic_torch_does_it(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how != "known":
        monkeypatch.setattr("featlink.shared.models.interpolation.fused", lambda *_: None)
    rng = np.random.default_rng(2)
    check(smooth(rng).astype(np.float32), np.array([20, 30, 400, 300], np.float32), (350, 450))
