"""MS-SSIM: as the paper defines it, computed again place by place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from featlink.shared.metrics.ms_ssim import EXPONENTS, ms_ssim
from featlink.shared.metrics.ssim import C1, C2, ssim


def pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    clean = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32) * 255, (0, 0), 2)
    return clean, clean + rng.normal(0, 4, clean.shape).astype(np.float32)


def slowly(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    kernel = cv2.getGaussianKernel(11, 1.5)
    window = kernel @ kernel.T
    means = []
    for scale in range(scales):
        of_places = []
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a, b = (plane[row : row + 11, column : column + 11].astype(float) for plane in (x, y))
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                vab = (window * (a - ma) * (b - mb)).sum()
                value = (2 * vab + C2) / (va + vb + C2)
                last = scale == scales - 1
                of_places.append(value * ((2 * ma * mb + C1) / (ma**2 + mb**2 + C1) if last else 1))
        means.append(np.mean(of_places))
        x, y = (cv2.resize(one, (one.shape[1] // 2, one.shape[0] // 2), interpolation=cv2.INTER_AREA) for one in (x, y))
    exponents = np.array(EXPONENTS[:scales]) / sum(EXPONENTS[:scales]) * sum(EXPONENTS)
    return float(np.prod(np.array(means) ** exponents))


def test_it_is_the_papers_definition() -> None:
    clean, noisy = pair(48, 64)
    assert ms_ssim(clean, noisy) == pytest.approx(slowly(clean, noisy, 3), abs=1e-5)


def test_one_scale_is_ssim() -> None:
    clean, noisy = pair(20, 21)
    assert ms_ssim(clean, noisy) == pytest.approx(ssim(clean, noisy) ** sum(EXPONENTS), abs=1e-4)


def test_order() -> None:
    clean, noisy = pair(180, 180)
    assert ms_ssim(clean, clean) == pytest.approx(1)
    assert 1 > ms_ssim(clean, noisy) > ms_ssim(clean, np.full_like(clean, 127))


@pytest.mark.parametrize("shapes", [((10, 30), (10, 30)), ((20, 20), (20, 21)), ((3, 20, 20), (3, 20, 20))])
def test_what_cannot_be_compared_is_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="MS-SSIM"):
        ms_ssim(np.zeros(shapes[0]), np.zeros(shapes[1]))
