"""Time and memory of the channel on the pyramid of an 800×1088 input, side by side with plain copies.

Run from the repository root: ``python -m benchmarks.channel_costs [repeats]``. The last line is JSON.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import psutil

from featlink.channel.codecs.base import PictureFormat, PlaneCoder
from featlink.channel.codecs.vvenc import Vvenc
from featlink.channel.distortions.gaussian_blur import blur
from featlink.channel.distortions.resize import down_and_up
from featlink.channel.transmit import transmit
from featlink.shared.conditions.language import parse
from featlink.shared.features import Array, Sizes
from featlink.shared.frames.bitstream import pack
from featlink.shared.frames.packing import level_range, quantize, tile
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.result import Telemetry

SHAPES = {"p2": (200, 272), "p3": (100, 136), "p4": (50, 68), "p5": (25, 34), "p6": (13, 17)}
CONDITIONS = (
    "quantize(bits=8)",
    "quantize(bits=4)",
    "gaussian_blur(sigma=3, window=21)",
    "gaussian_noise(sigma=5)",
    "resize(factor=4)",
    "packet_loss(rate=0.05)",
    "bit_error(ber=0.001)",
    "rank_shuffle(span=1000)",
    "monotone(gamma=2)",
)


def levels() -> dict[str, Array]:
    """Smooth seeded noise, as features are."""
    random = np.random.default_rng(0)
    return {
        name: np.stack([cv2.GaussianBlur(random.standard_normal(shape, np.float32), (0, 0), 2) for _ in range(256)])
        for name, shape in SHAPES.items()
    }


def medians(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            times[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_mib(action: Callable[[], object]) -> float:
    """How far resident memory rises while an action runs."""
    process, done, peak = psutil.Process(), threading.Event(), 0
    gc.collect()
    idle = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    action()
    done.set()
    watcher.join()
    return (peak - idle) / 2**20


def main(repeats: int) -> None:
    """Print medians, then peaks of memory, then the codec driver's overhead."""
    pyramid = levels()
    frame = Frame(Meta("feature", "m", "w", Sizes((800, 1088), (800, 1088), (800, 1088))), _tensors(pyramid))
    float_mib = sum(level.nbytes for level in pyramid.values()) / 2**20
    p2, plane = pyramid["p2"], tile(pyramid["p2"])
    samples = tile(quantize(p2, level_range(p2), 8))[None]
    everything = list(pyramid.values())
    result = medians(
        {
            "copy of the float plane of p2": plane.copy,
            "blur of p2, sigma 1, window 21": lambda: blur(samples, 1, 21),
            "blur of p2, sigma 3, window 21": lambda: blur(samples, 3, 21),
            "resize of p2 by 2": lambda: down_and_up(samples, 8, 2),
            "resize of p2 by 8": lambda: down_and_up(samples, 8, 8),
            "range, quantise to 8 bits and tile p2": lambda: tile(quantize(p2, level_range(p2), 8)),
            "range, quantise to 8 bits and tile p2..p6": lambda: [
                tile(quantize(f, level_range(f), 8)) for f in everything
            ],
            "range, quantise to 4 bits and pack p2..p6": lambda: [
                pack(quantize(f, level_range(f), 4).reshape(-1), 4) for f in everything
            ],
        },
        repeats,
    )
    for name, ms in result.items():
        print(f"{name:<45} {ms:8.1f} ms  {ms / result['copy of the float plane of p2']:5.1f} copies", flush=True)

    print(f"\nwhole pyramid ({float_mib:.0f} MiB of float32) through transmit():")
    peaks = {}
    for text in CONDITIONS:
        condition = parse(text)
        transmit(frame, condition, Telemetry())  # warm
        once = medians({"time": lambda c=condition: transmit(frame, c, Telemetry(), fidelity=False)}, 3)["time"]  # type: ignore[misc]
        peaks[text] = peak_mib(lambda c=condition: transmit(frame, c, Telemetry())) / float_mib  # type: ignore[misc]
        print(f"{text:<45} {once:8.1f} ms  peak with fidelity {peaks[text]:.2f} float pyramids", flush=True)

    overheads = []
    for _ in range(3):
        started = time.perf_counter()
        with PlaneCoder(Vvenc(qp=40), {"p2": PictureFormat(samples.shape)}) as coder:
            (coded,) = coder.push({"p2": samples})
        whole = (time.perf_counter() - started) * 1e3
        overheads.append((whole - coded.encode_ms - coded.decode_ms) / whole)
    print(f"\nvvenc of p2, share of time outside encoder and decoder: {statistics.median(overheads):.4f}")
    print(
        json.dumps(
            {
                "copies": {name: ms / result["copy of the float plane of p2"] for name, ms in result.items()},
                "ms": result,
                "worst_peak": max(peaks.values()),
                "codec_overhead": statistics.median(overheads),
            }
        )
    )


def _tensors(pyramid: dict[str, Array]) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, level) for name, level in pyramid.items())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
