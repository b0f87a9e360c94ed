"""Masks pasted into their own part of the image against torchvision, which lays out the whole."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from featlink.shared.models.masks import PastedMasks

SIDES = st.integers(1, 60)
EDGES = st.floats(-20, 80, width=32)


@given(size=st.tuples(SIDES, SIDES), corners=st.lists(st.tuples(EDGES, EDGES, EDGES, EDGES), min_size=1, max_size=4))
def test_every_value_is_torchvisions(size: tuple[int, int], corners: list[tuple[float, ...]]) -> None:
    height, width = size
    boxes = torch.tensor([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners])
    boxes[:, 0::2].clamp_(0, width)  # as postprocess has them
    boxes[:, 1::2].clamp_(0, height)
    masks = torch.rand(len(corners), 1, 28, 28, generator=torch.Generator().manual_seed(0))
    wanted = paste_masks_in_image(masks, boxes, size)[:, 0].numpy()
    found = PastedMasks(masks, boxes, size)
    assert len(found) == len(corners)
    for index in range(len(corners)):
        np.testing.assert_array_equal(found[index], wanted[index])
        part = found.part(index)
        height, width = part.values.shape
        np.testing.assert_array_equal(
            part.values, wanted[index][part.top : part.top + height, part.left : part.left + width]
        )
    np.testing.assert_array_equal(found[:2], wanted[:2])
