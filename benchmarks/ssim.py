"""Time SSIM on the packed plane of p2 of an 800x1088 input: ours, torchmetrics, scikit-image.

Run from the repository root, with torch, torchmetrics and scikit-image installed:
``python -m benchmarks.ssim [repeats]``. The last line is JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from featlink.shared.metrics.ssim import ssim

SHAPE = (3200, 4352)


def main(repeats: int) -> None:
    """Time the three in turns, on the same planes and threads, and print medians."""
    threads = cv2.getNumThreads()
    torch.set_num_threads(threads)
    random = np.random.default_rng(0)
    clean = cv2.GaussianBlur(random.random(SHAPE, np.float32), (0, 0), 3.0)
    clean = (clean - clean.min()) * np.float32(255 / np.ptp(clean))
    noisy = clean + random.normal(0, 5, SHAPE).astype(np.float32)
    clean_tensor, noisy_tensor = torch.from_numpy(clean)[None, None], torch.from_numpy(noisy)[None, None]
    contenders: dict[str, Callable[[], float]] = {
        "featlink": lambda: ssim(clean, noisy),
        "torchmetrics": lambda: float(
            structural_similarity_index_measure(  # type: ignore[arg-type]
                clean_tensor, noisy_tensor, gaussian_kernel=True, sigma=1.5, kernel_size=11, data_range=255.0
            )
        ),
        "skimage": lambda: float(
            structural_similarity(  # type: ignore[no-untyped-call]
                clean, noisy, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            )
        ),
    }
    values: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.inference_mode():
        contenders["torchmetrics"]()  # its first call sets up the convolution
        for _ in range(repeats):
            for name, measure in contenders.items():
                start = time.perf_counter()
                values[name] = measure()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"SSIM of a {SHAPE[0]}x{SHAPE[1]} float32 plane, {threads} threads, median of {repeats}")
    for name, median in medians.items():
        print(f"{name:14}{1e3 * median:10.1f} ms   {values[name]:.6f}")
    result = {
        "shape": SHAPE,
        "threads": threads,
        "repeats": repeats,
        "median_ms": {name: round(1e3 * median, 2) for name, median in medians.items()},
        "value": values,
        "ratio": medians["featlink"] / medians["torchmetrics"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
