"""Paste masks as torchvision's ``postprocess`` does, one at a time and no larger than the box.

100 masks at the size of a photo of 12 megapixels would be 4.8 GB, almost all of it zeros. What is asked of a mask are
mostly its runs. A mask of 28×28 values, enlarged to millions of pixels, crosses the threshold along curves only:
between four neighbouring values, every interpolated one lies between them. So of each column a few rows are
interpolated, with torch's own arithmetic, and the rest follows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

from featlink.shared.compiled import numba
from featlink.shared.models.detections import MaskPart, PartialMasks, Runs
from featlink.shared.models.interpolation import blend, by_corners, fused, taps
from featlink.shared.models.rle import THRESHOLD, runs_of_part


class HeadMasks(PartialMasks):
    """Masks of a mask head, which fill their boxes.

    Args:
        masks: float32 (N, 1, M, M) in 0..1, of the mask head.
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the image.
        size: (height, width) of the image.
    """

    def __init__(self, masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> None:
        super().__init__(size)
        self._masks, self._boxes = masks, boxes

    def __len__(self) -> int:
        return len(self._masks)


class PastedMasks(HeadMasks):
    """The values that ``torchvision.models.detection.roi_heads.paste_masks_in_image`` gives, bit for bit."""

    def __init__(self, masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> None:
        padded, scale = expand_masks(masks, padding=1)  # so that a mask may reach beyond its box, as in torchvision
        super().__init__(padded[:, 0], expand_boxes(boxes, scale).to(torch.int64), size)

    def runs(self, index: int) -> Runs:
        """See :class:`PartialMasks`; of what :meth:`part` is, mostly without making it."""
        mask = self._masks[index]
        x1, y1, x2, y2 = self._boxes[index].tolist()
        is_fused = fused() if mask.device.type == "cpu" else None
        if is_fused is None or by_corners(1, y2 - y1 + 1, x2 - x1 + 1):
            return runs_of_part(self.part(index))
        runs: Runs = runs_of_enlarged(mask.numpy(), x1, y1, x2, y2, *self.size, is_fused)
        return runs

    @torch.inference_mode()
    def part(self, index: int) -> MaskPart:
        """What the mask fills of the image."""
        height, width = self.size
        x1, y1, x2, y2 = self._boxes[index].tolist()
        left, right = (min(max(x, 0), width) for x in (x1, x2 + 1))
        top, bottom = (min(max(y, 0), height) for y in (y1, y2 + 1))
        # torchvision copies this into a picture of zeros; of a large one that takes longer than the interpolation
        size = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        pasted = interpolate(self._masks[index][None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        return MaskPart(pasted[top - y1 : bottom - y1, left - x1 : right - x1].cpu().numpy(), top, left, self.size)


_MARGIN = 1e-6
"""More than what rounding takes an interpolated value, of values in 0..1, from where it is."""

_OUTSIDE, _INSIDE, _CROSSED = 0, 1, 2
"""What a stretch of rows is, between two columns of the mask: crossed by the outline, or not."""

_COUNT, _NOW, _LENGTH = 0, 1, 2
"""What :func:`_add` keeps: how many runs are over; of the one that goes on, whether it is inside, and its length."""


@numba.njit(nogil=True, cache=True)
def runs_of_enlarged(mask, x1, y1, x2, y2, height, width, fused):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Runs of a mask that torch would enlarge to a box, without laying out the box.

    Args:
        mask: float32 (M, M) in 0..1; NaN is outside of the object.
        x1, y1, x2, y2: first and last column and row of the box, which may reach beyond the image.
        height, width: of the image.
        fused: torch's arithmetic (:func:`featlink.shared.models.interpolation.fused`).

    Returns:
        int64 (K,), as :func:`featlink.shared.models.rle.runs_of_part` has them of what torch interpolates.
    """
    size = len(mask)
    y_first, y_second, y_low, y_high = taps(size, max(y2 - y1 + 1, 1), fused)
    x_first, x_second, x_low, x_high = taps(size, max(x2 - x1 + 1, 1), fused)
    left, right = min(max(x1, 0), width), min(max(x2 + 1, 0), width)
    top, bottom = min(max(y1, 0), height), min(max(y2 + 1, 0), height)
    runs, state = np.empty(4 * len(x_first) + len(y_first) + 2, np.int64), np.zeros(3, np.int64)
    ends, kinds = np.empty(size, np.int64), np.empty(size, np.int64)  # of stretches
    gap = left * height + top  # pixels outside of the part before its next column
    stretches, last = 0, -1
    for x in range(left - x1, right - x1):
        x0, x1_ = x_first[x], x_second[x]
        if x0 != last:
            stretches, last = _stretches(mask, x0, x1_, y_first, y_second, top - y1, bottom - y1, ends, kinds), x0
        if state[_COUNT] + bottom - top + 2 > len(runs):
            runs = np.concatenate((runs, np.empty(len(runs), np.int64)))
        _add(runs, state, False, gap)
        row = top - y1
        for stretch in range(stretches):
            end = ends[stretch]
            if kinds[stretch] != _CROSSED:
                _add(runs, state, kinds[stretch] == _INSIDE, end - row)
            else:
                y0, y1_ = y_first[row], y_second[row]
                above = blend(mask[y0, x0], x_low[x], mask[y0, x1_], x_high[x], fused)
                below = blend(mask[y1_, x0], x_low[x], mask[y1_, x1_], x_high[x], fused)
                _cross(runs, state, above, below, y_low, y_high, row, end, fused)
            row = end
        gap = height - bottom + top
    _add(runs, state, False, height * width - runs[: state[_COUNT]].sum() - state[_LENGTH])
    runs[state[_COUNT]] = state[_LENGTH]
    return runs[: state[_COUNT] + 1]


@numba.njit(nogil=True, cache=True)
def _stretches(mask, x0, x1, y_first, y_second, row, stop, ends, kinds):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Part the rows of the columns between two of the mask's: wholly inside, outside, or crossed by the outline.

    A crossed stretch ends where the next two rows of the mask begin. Fills ``ends`` and ``kinds``; returns how many.
    """
    count = 0
    high, low = THRESHOLD + _MARGIN, THRESHOLD - _MARGIN
    while row < stop:
        y0, y1 = y_first[row], y_second[row]
        a, b, c, d = mask[y0, x0], mask[y0, x1], mask[y1, x0], mask[y1, x1]
        kind = _CROSSED
        if a > high and b > high and c > high and d > high:
            kind = _INSIDE
        elif a < low and b < low and c < low and d < low:
            kind = _OUTSIDE
        while row < stop and y_first[row] == y0:
            row += 1
        if count and kind != _CROSSED and kinds[count - 1] == kind:
            count -= 1
        ends[count], kinds[count] = row, kind
        count += 1
    return count


@numba.njit(nogil=True, cache=True)
def _cross(runs, state, above, below, low, high, row, end, fused):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Go on by the rows of a column between two values, ``above`` and ``below``."""
    if np.isnan(above + below) or max(above, below) < THRESHOLD - _MARGIN:
        _add(runs, state, False, end - row)
        return
    if min(above, below) > THRESHOLD + _MARGIN:
        _add(runs, state, True, end - row)
        return
    rising = below > above
    near = THRESHOLD - _MARGIN if rising else THRESHOLD + _MARGIN
    far = THRESHOLD + _MARGIN if rising else THRESHOLD - _MARGIN
    start = _passes(above, below, low, high, row, end, near, rising, fused)
    stop = _passes(above, below, low, high, start, end, far, rising, fused)
    _add(runs, state, not rising, start - row)
    for y in range(start, stop):
        _add(runs, state, blend(above, low[y], below, high[y], fused) > THRESHOLD, 1)
    _add(runs, state, rising, end - stop)


@numba.njit(nogil=True, cache=True)
def _add(runs, state, inside, length):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Go on by ``length`` pixels that are inside of the object or not."""
    if length == 0:
        return
    if inside != (state[_NOW] == 1):
        runs[state[_COUNT]] = state[_LENGTH]
        state[_COUNT] += 1
        state[_NOW], state[_LENGTH] = inside, 0
    state[_LENGTH] += length


@numba.njit(nogil=True, cache=True)
def _passes(above, below, low, high, row, end, level, rising, fused):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The first row before ``end`` whose value is beyond a level, in the direction in which values go; by bisection."""
    while row < end:
        middle = (row + end) // 2
        value = blend(above, low[middle], below, high[middle], fused)
        if value > level if rising else value < level:
            end = middle
        else:
            row = middle + 1
    return row
