"""Multi-scale structural similarity of planes (Wang, Simoncelli and Bovik, 2003).

At each of five scales, the picture halved by averages of 2×2 pixels in between, contrast and structure are compared as
SSIM does (Gaussian window of 11 pixels, σ 1.5, where the whole window fits), and at the last one luminance, too; the
means over places are multiplied with the paper's exponents. A negative mean counts as 0.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from featlink.shared.metrics.ssim import C1, C2, SIGMA, WINDOW, Plane

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(reference: Plane, distorted: Plane) -> float:
    """Multi-scale SSIM of two planes.

    Planes that are too small for five scales (a side below 176) take as many as fit, their exponents scaled to the
    same sum.

    Args:
        reference: shape (H, W), values in 0..255, sides of at least 11.
        distorted: same shape.

    Returns:
        In [0, 1], 1 for equal planes.

    Raises:
        ValueError: the shapes differ, or a side is shorter than the window.

    Example:
        >>> plane = np.arange(1024, dtype=np.float32).reshape(32, 32) / 4
        >>> round(ms_ssim(plane, plane), 6), ms_ssim(plane, 255 - plane)
        (1.0, 0.0)
    """
    if reference.shape != distorted.shape or reference.ndim != 2 or min(reference.shape) < WINDOW:
        raise ValueError(f"MS-SSIM needs two planes of one shape, {WINDOW} or more a side, not {reference.shape}")
    x, y = reference.astype(np.float64), distorted.astype(np.float64)
    scales = min(len(EXPONENTS), 1 + int(math.log2(min(x.shape) / WINDOW)))
    exponents = np.array(EXPONENTS[:scales]) * (sum(EXPONENTS) / sum(EXPONENTS[:scales]))
    value = 1.0
    for scale, exponent in enumerate(exponents):
        luminance, structure = _compared(x, y)
        mean = (luminance * structure).mean() if scale == scales - 1 else structure.mean()
        value *= max(float(mean), 0.0) ** exponent
        x, y = _halved(x), _halved(y)
    return float(value)


def _compared(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """SSIM's luminance, and its contrast times structure, at each place of the window."""
    mean_x, mean_y = _windowed(x), _windowed(y)
    variances = _windowed(x * x) + _windowed(y * y) - mean_x**2 - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _windowed(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    halo = WINDOW // 2
    return np.asarray(cv2.GaussianBlur(plane, (WINDOW, WINDOW), SIGMA), np.float64)[halo:-halo, halo:-halo]


def _halved(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    height, width = (side // 2 for side in plane.shape)
    whole: npt.NDArray[np.float64] = plane[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    return whole
