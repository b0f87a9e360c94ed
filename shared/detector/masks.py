"""torchvision's ``postprocess`` of masks, one at a time and no larger than the box.

100 masks at the size of a photo of 12 megapixels would be 4.8 GB, almost all of it zeros.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

from shared.detector.detections import MaskPart, PartialMasks


class PastedMasks(PartialMasks):
    """The values that ``torchvision.models.detection.roi_heads.paste_masks_in_image`` gives, bit for bit.

    Args:
        masks: float32 (N, 1, M, M) in 0..1, of the mask head.
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the image.
        size: (height, width) of the image.
    """

    def __init__(self, masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> None:
        padded, scale = expand_masks(masks, padding=1)  # so that a mask may reach beyond its box, as in torchvision
        self._masks: Tensor = padded[:, 0]
        self._boxes: list[list[int]] = expand_boxes(boxes, scale).to(torch.int64).tolist()
        self._size = size

    def __len__(self) -> int:
        return len(self._masks)

    @torch.inference_mode()
    def part(self, index: int) -> MaskPart:
        """See :class:`PartialMasks`."""
        height, width = self._size
        x1, y1, x2, y2 = self._boxes[index]
        left, right = (min(max(x, 0), width) for x in (x1, x2 + 1))
        top, bottom = (min(max(y, 0), height) for y in (y1, y2 + 1))
        # torchvision copies this into a picture of zeros; of a large one that takes longer than the interpolation
        size = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        pasted = interpolate(self._masks[index][None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        return MaskPart(pasted[top - y1 : bottom - y1, left - x1 : right - x1].cpu().numpy(), top, left, self._size)

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice) -> list[npt.NDArray[np.float32]]: ...

    def __getitem__(self, index: int | slice) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """The whole mask, float32 (H, W)."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part = self.part(index)
        height, width = part.values.shape
        whole = np.zeros(self._size, np.float32)
        whole[part.top : part.top + height, part.left : part.left + width] = part.values
        return whole
