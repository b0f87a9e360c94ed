"""The fidelity of a pyramid, computed on a GPU: :func:`featlink.shared.metrics.fidelity.compare_pyramids` in torch.

Rank correlations are the same to the last digit, as they are quotients of integers. PSNR differs by less than 0.001 dB
and SSIM by less than 10⁻⁵: the same float32 arithmetic in another order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from featlink.shared.features import Array
from featlink.shared.frames.packing import grid
from featlink.shared.metrics import ssim as plain
from featlink.shared.metrics.fidelity import Fidelity, pooled, psnr, scale_of
from featlink.shared.metrics.rank_correlation import sample_positions

if TYPE_CHECKING:
    from featlink.shared.models.device import Gateway

_MOST_PIXELS = 1 << 24
"""Of a plane that are worked on at a time: about 1 GiB for all that is kept of them."""


class DeviceFidelity:
    """``compare_pyramids`` on a device.

    Args:
        gateway: to the device.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @torch.inference_mode()
    def __call__(self, reference: Mapping[str, Array], distorted: Mapping[str, Array]) -> Fidelity:
        """Judge a distorted pyramid by the clean, unquantised one.

        Args:
            reference: level name to float32 array of shape (C, H, W).
            distorted: the same levels, as floats.

        Raises:
            ValueError: the levels or their shapes differ; a value is NaN or infinite.
        """
        shapes = [{name: level.shape for name, level in side.items()} for side in (reference, distorted)]
        if not reference or shapes[0] != shapes[1]:
            raise ValueError(f"fidelity needs the same levels, not {shapes[0]} and {shapes[1]}")
        with self._gateway.entered():
            bring = self._gateway.bring
            found = {name: _level(bring(clean), bring(distorted[name])) for name, clean in reference.items()}
        levels = {name: level for name, (level, _) in found.items()}
        error = sum(error for _, error in found.values())
        return pooled(levels, error, sum(level.size for level in reference.values()))


def _level(clean: Tensor, bad: Tensor) -> tuple[Fidelity, float]:
    """Of one level; and its squared error in units of 0..255."""
    low, high = (float(one) for one in torch.aminmax(clean))
    scale = scale_of(low, high)
    error = float((clean - bad).double().square_().sum()) * scale**2
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(error)):
        raise ValueError("fidelity needs finite values")
    similarity = _ssim(clean, bad, low, scale)
    if not math.isfinite(similarity):
        raise ValueError("SSIM is undefined: a value is not finite, or too large")
    return Fidelity(psnr(error / clean.numel()), similarity, _spearman(clean, bad)), error


def _ssim(clean: Tensor, bad: Tensor, low: float, scale: float) -> float:
    """As :func:`featlink.shared.metrics.ssim.level_ssim`, in strips of the tiled plane."""
    halo = plain.WINDOW // 2
    middle, unit = np.float32(low + plain.PEAK / 2 / scale).item(), np.float32(scale).item()
    x, y = ((_tiled(level) - middle) * unit for level in (clean, bad))
    if min(x.shape) < plain.WINDOW:
        x, y = _mirrored(x, halo), _mirrored(y, halo)
    taps = torch.tensor([*plain.TAPS, *plain.TAPS[-2::-1]], device=x.device)
    last, width = x.shape[0] - 2 * halo, x.shape[1]
    step = max(1, _MOST_PIXELS // width)
    total = 0.0
    for start in range(0, last, step):
        rows = slice(start, min(start + step, last) + 2 * halo)
        total += float(_map(x[rows], y[rows], taps).sum(dtype=torch.float64))
    return total / (last * (width - 2 * halo))


def _map(x: Tensor, y: Tensor, taps: Tensor) -> Tensor:
    """SSIM at each position, by sum and difference as in :mod:`featlink.shared.metrics.ssim`."""
    s, d = x + y, x - y
    stack = torch.stack([s, d, s * s, d * d])[:, None]
    mean_s, mean_d, square_s, square_d = F.conv2d(F.conv2d(stack, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))[:, 0]
    ms, md = mean_s.square(), mean_d.square()
    vs, vd = (square_s - ms).abs(), (square_d - md).abs()
    ms = (mean_s + plain.PEAK).square()
    c1, c2 = 2 * plain.C1, 2 * plain.C2
    found: Tensor = (ms - md + c1) / (ms + md + c1) * ((vs - vd + c2) / (vs + vd + c2))
    return found


def _tiled(level: Tensor) -> Tensor:
    channels, height, width = level.shape
    rows, columns = grid(channels)
    if missing := rows * columns - channels:
        level = torch.cat([level, level[-1, -1, -1].expand(missing, height, width)])
    return level.reshape(rows, columns, height, width).transpose(1, 2).reshape(rows * height, columns * width)


def _mirrored(plane: Tensor, width: int) -> Tensor:
    """numpy's ``symmetric`` padding, which torch has not."""
    for axis in (0, 1):
        at = np.pad(np.arange(plane.shape[axis]), width, "symmetric")
        plane = plane.index_select(axis, torch.from_numpy(at).to(plane.device))
    return plane


def _spearman(clean: Tensor, bad: Tensor) -> float | None:
    positions = torch.from_numpy(sample_positions(clean.numel())).to(clean.device)
    x, y = (_centred_ranks(level.reshape(-1)[positions]) for level in (clean, bad))
    xx, xy, yy = (int((a * b).sum()) for a, b in ((x, x), (x, y), (y, y)))
    if not xx:
        return None
    return xy / math.sqrt(xx * yy) if yy else 0.0


def _centred_ranks(values: Tensor) -> Tensor:
    """Twice (a value's rank less the mean rank), as integers."""
    ordered, order = torch.sort(values)
    _, group, counts = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0)
    ranks = torch.empty_like(order)
    ranks[order] = (2 * ends - counts - len(values))[group]
    return ranks
