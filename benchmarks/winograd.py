"""A 3×3 convolution of 256 channels by Winograd's method against OpenVINO and torch, in CPU seconds of one thread.

    python -m benchmarks.winograd

The shapes are those of p2 at 800×1088 and of 100 regions in the mask head; the three take turns. The last line is JSON
with the medians.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import openvino
import torch
from torch import nn

from featlink.shared.models.fast.winograd import WinogradConv

SHAPES = {"p2 at 800×1088": (1, 256, 200, 272), "100 regions": (100, 256, 14, 14)}
REPEATS = 7


def compiled(module: nn.Module, x: torch.Tensor) -> Callable[[], Any]:
    """The module by OpenVINO on this input."""
    graph = openvino.convert_model(module, example_input=x)
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()
    return lambda: request.infer({0: x.numpy()}, share_inputs=True, share_outputs=True)


@torch.inference_mode()
def main() -> None:
    """Run the benchmark."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    conv = nn.Conv2d(256, 256, 3, padding=1).eval()
    fast = WinogradConv(conv, relu=True, threads=1)
    medians: dict[str, dict[str, float]] = {}
    for name, shape in SHAPES.items():
        x = torch.randn(shape)
        last = x.contiguous(memory_format=torch.channels_last)
        direct = nn.Sequential(conv, nn.ReLU())
        sides: dict[str, Callable[[], Any]] = {
            "winograd": lambda last=last: fast(last),  # type: ignore[misc]
            "openvino": compiled(direct, x),
            "torch": lambda direct=direct, x=x: direct(x),  # type: ignore[misc]
        }
        taken: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(REPEATS + 1):
            for side, call in sides.items():
                started = time.process_time()
                call()
                taken[side].append(time.process_time() - started)
        medians[name] = {side: round(statistics.median(seconds[1:]), 3) for side, seconds in taken.items()}
        expected = direct(x)
        print(
            f"{name}: largest difference {float((fast(last) - expected).abs().max() / expected.max()):.1e} of the range"
        )
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
