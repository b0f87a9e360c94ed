"""Per-region operations, several times faster than torchvision's: RoIAlign, and the mask of a region's label.

Source: He et al., Mask R-CNN (2017), section 3; level assignment: Lin et al., FPN (2017), eq. 1; border
rules and coordinates (``aligned=False``) as in ``torchvision.ops.roi_align``.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, box_area

from featlink.shared.buffers import BufferPool
from featlink.shared.compiled import numba

_buffers = BufferPool(keep=4)


class FastRoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision is untyped
    """Drop-in for ``torchvision.ops.MultiScaleRoIAlign`` at inference on one image.

    Differs from it by float32 rounding only. Fastest when the features' memory is channels-last.

    Args:
        featmap_names: levels to pool from.
        output_size: (height, width) of a pooled region.
        sampling_ratio: samples per bin and axis, at least 1.
        threads: CPU threads.
    """

    def __init__(self, featmap_names: list[str], output_size: Any, sampling_ratio: int, threads: int) -> None:
        super().__init__(featmap_names, output_size, sampling_ratio)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="roi-align")

    @classmethod
    def like(cls, pool: MultiScaleRoIAlign, threads: int) -> FastRoIAlign:
        """One that stands for torchvision's."""
        return cls(pool.featmap_names, pool.output_size, pool.sampling_ratio, threads)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pool each box from its level.

        Args:
            x: name to float32 (1, C, H, W).
            boxes: one float32 (K, 4) tensor, x1 y1 x2 y2 in pixels of the network input.
            image_shapes: the resized image's (height, width).

        Returns:
            float32 (K, C, output height, output width) in channels-last memory.
        """
        levels = [x[name] for name in self.featmap_names]
        # Nothing is kept in this object: several threads may use it at a time.
        rois = boxes[0].contiguous().numpy()
        shrinks = [round(math.log2(image_shapes[0][0] / level.shape[2])) for level in levels]
        assigned = self._assigned(boxes[0], shrinks).numpy()
        arrays = tuple(level[0].permute(1, 2, 0).contiguous().numpy() for level in levels)
        scales = np.array([2.0**-shrink for shrink in shrinks], np.float32)
        height, width = self.output_size
        channels = arrays[0].shape[2]
        memory = _buffers.take(4 * len(rois) * height * width * channels)
        out = np.frombuffer(memory, np.float32).reshape(len(rois), height, width, channels)
        # Interleaved: equal shares. Whole arrays, as Numba would compile again for a slice with gaps.
        jobs = [
            self._pool.submit(
                _pool_rois, first, self._threads, arrays, scales, assigned, rois, self.sampling_ratio, out
            )
            for first in range(self._threads)
        ]
        for job in jobs:
            job.result()
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def _assigned(self, boxes: Tensor, shrinks: list[int]) -> Tensor:
        """Number of each box's level: the FPN paper's equation 1."""
        sides = torch.sqrt(box_area(boxes))
        levels = torch.floor(self.canonical_level + torch.log2(sides / self.canonical_scale) + 1e-6)
        return torch.clamp(levels, min=shrinks[0], max=shrinks[-1]).to(torch.int64) - shrinks[0]


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _pool_rois(first, step, levels, scales, assigned, rois, samples, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    bins_y, bins_x, channels = out.shape[1:]
    share = np.float32(1) / np.float32(samples * samples)
    for k in range(first, len(rois), step):
        feature, scale = levels[assigned[k]], scales[assigned[k]]
        left, top = rois[k, 0] * scale, rois[k, 1] * scale
        bin_w = max(rois[k, 2] * scale - left, np.float32(1)) / np.float32(bins_x)
        bin_h = max(rois[k, 3] * scale - top, np.float32(1)) / np.float32(bins_y)
        out[k] = 0
        for i in range(bins_y * samples):
            y = top + np.float32(i // samples) * bin_h + np.float32(i % samples + 0.5) * bin_h / np.float32(samples)
            y0, y1, wy = _neighbours(y, feature.shape[0])
            for j in range(bins_x * samples):
                x = (
                    left
                    + np.float32(j // samples) * bin_w
                    + np.float32(j % samples + 0.5) * bin_w / np.float32(samples)
                )
                x0, x1, wx = _neighbours(x, feature.shape[1])
                if y0 < 0 or x0 < 0:
                    continue
                w00, w01 = (1 - wy) * (1 - wx) * share, (1 - wy) * wx * share
                w10, w11 = wy * (1 - wx) * share, wy * wx * share
                f00, f01, f10, f11 = feature[y0, x0], feature[y0, x1], feature[y1, x0], feature[y1, x1]
                cell = out[k, i // samples, j // samples]
                for c in range(channels):
                    cell[c] += w00 * f00[c] + w01 * f01[c] + w10 * f10[c] + w11 * f11[c]


@numba.njit(nogil=True, cache=True)
def _neighbours(at, size):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The two samples around a coordinate and the second one's weight; (-1, ...) beyond the border's one pixel."""
    if at < -1 or at > size:
        return -1, -1, np.float32(0)
    at = max(at, np.float32(0))
    low = int(at)
    if low >= size - 1:
        return size - 1, size - 1, np.float32(0)
    return low, low + 1, np.float32(at - np.float32(low))


_REGIONS = 16
"""At a time: what lies between the two layers stays in the caches."""


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
