"""The mask branch for one image: of each region, the mask of its label alone.

torchvision's predictor makes a mask for every class, 91 times as many as are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_REGIONS = 16
"""At a time: what lies between the two layers stays in the caches."""


class MaskBranch(nn.Module):
    """From the pyramid to masks.

    Args:
        pool: RoIAlign.
        head: of pooled regions.
        predictor: torchvision's ``MaskRCNNPredictor`` in eval mode.
        dtype: of its arithmetic.
    """

    def __init__(self, pool: nn.Module, head: nn.Module, predictor: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.pool, self.head, self.predict = pool, head, LabelledMasks(predictor, dtype)

    def forward(self, features: dict[str, Tensor], boxes: Tensor, labels: Tensor, resized: tuple[int, int]) -> Tensor:
        """Masks of boxes.

        Args:
            features: level name to float32 (1, C, H, W).
            boxes: float32 (K, 4), x1 y1 x2 y2 in pixels of the network input.
            labels: int64 (K,).
            resized: (height, width) of the picture in the network input.

        Returns:
            float32 (K, 1, 28, 28) in 0..1.
        """
        masks: Tensor = self.predict(self.head(self.pool(features, [boxes], [resized])), labels)
        return masks


class LabelledMasks(nn.Module):
    """A ``MaskRCNNPredictor`` that is told the labels, with the sigmoid behind it.

    Args:
        predictor: a transposed convolution of size and stride 2, ReLU, and a 1×1 convolution to the classes.
        dtype: of the arithmetic.
    """

    def __init__(self, predictor: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        larger, last = predictor.conv5_mask, predictor.mask_fcn_logits
        with torch.no_grad():
            # As a matrix: a pixel's inputs to the outputs of the four pixels that take its place.
            self._matrix = larger.weight.permute(0, 2, 3, 1).flatten(1).contiguous().to(dtype)
            self._bias = larger.bias.repeat(4).to(dtype)
            self._classes = last.weight.flatten(1)[..., None].contiguous().to(dtype)
            self._class_biases = last.bias.detach()

    def forward(self, regions: Tensor, labels: Tensor) -> Tensor:
        """Masks of regions.

        Args:
            regions: float32 (K, C, H, W), fastest in channels-last memory.
            labels: int64 (K,).

        Returns:
            float32 (K, 1, 2H, 2W) in 0..1.
        """
        count, channels, height, width = regions.shape
        logits = torch.empty(count, height, width, 2, 2)
        for start in range(0, count, _REGIONS):
            some = slice(start, start + _REGIONS)
            rows = regions[some].permute(0, 2, 3, 1).reshape(-1, channels).to(self._matrix.dtype)
            hidden = torch.addmm(self._bias, rows, self._matrix).relu_()
            kind = self._classes[labels[some]]
            found = torch.bmm(hidden.view(len(kind), -1, kind.shape[1]), kind)
            logits[some] = (
                found.view(-1, height, width, 2, 2) + self._class_biases[labels[some], None, None, None, None]
            )
        return logits.permute(0, 1, 3, 2, 4).reshape(count, 1, 2 * height, 2 * width).sigmoid_()
