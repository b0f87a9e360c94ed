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

from featlink.shared.models import bilinear
from featlink.shared.models.detections import MaskPart, PartialMasks, Runs
from featlink.shared.models.pasted_runs import runs_of_enlarged
from featlink.shared.models.rle import runs_of_part


class PastedMasks(PartialMasks):
    """The values that ``torchvision.models.detection.roi_heads.paste_masks_in_image`` gives, bit for bit.

    Args:
        masks: float32 (N, 1, M, M) in 0..1, of the mask head.
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the image.
        size: (height, width) of the image.
    """

    def __init__(self, masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> None:
        super().__init__(size)
        padded, scale = expand_masks(masks, padding=1)  # so that a mask may reach beyond its box, as in torchvision
        self._masks: Tensor = padded[:, 0]
        self._boxes: list[list[int]] = expand_boxes(boxes, scale).to(torch.int64).tolist()

    def __len__(self) -> int:
        return len(self._masks)

    def runs(self, index: int) -> Runs:
        """See :class:`PartialMasks`; of what :meth:`part` is, mostly without making it."""
        mask = self._masks[index]
        x1, y1, x2, y2 = self._boxes[index]
        fused = bilinear.fused() if mask.device.type == "cpu" else None
        if fused is None or bilinear.by_corners(1, y2 - y1 + 1, x2 - x1 + 1):
            return runs_of_part(self.part(index))
        runs: Runs = runs_of_enlarged(mask.numpy(), x1, y1, x2, y2, *self.size, fused)
        return runs

    @torch.inference_mode()
    def part(self, index: int) -> MaskPart:
        """What the mask fills of the image."""
        height, width = self.size
        x1, y1, x2, y2 = self._boxes[index]
        left, right = (min(max(x, 0), width) for x in (x1, x2 + 1))
        top, bottom = (min(max(y, 0), height) for y in (y1, y2 + 1))
        # torchvision copies this into a picture of zeros; of a large one that takes longer than the interpolation
        size = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        pasted = interpolate(self._masks[index][None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        return MaskPart(pasted[top - y1 : bottom - y1, left - x1 : right - x1].cpu().numpy(), top, left, self.size)

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
        whole = np.zeros(self.size, np.float32)
        whole[part.top : part.top + height, part.left : part.left + width] = part.values
        return whole
