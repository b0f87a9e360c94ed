"""Bits and time of entropy-coded samples on bundled scenes, beside simpler ways to code the same samples.

    python -m benchmarks.entropy_coding [--scenes 8] [--bits 8 4 2] [--threads 2] [--domain feature]

For each domain and depth: what crosses the link as a share of the dense samples' bits (frame headers included), the
worst picture's share, the zero-order entropy per channel and zlib as shares of the dense samples, and
milliseconds a picture. Encoding includes finding channels that are alike. What is decoded is compared. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from featlink.channel.codecs.base import PictureFormat, PlaneCoder, Tools
from featlink.channel.codecs.entropy import Entropy
from featlink.channel.transmit import transmit
from featlink.dataset import open_dataset
from featlink.shared.conditions.language import parse
from featlink.shared.frames.bitstream import Samples, nbytes, pack
from featlink.shared.frames.wire import IMAGE, Frame, Meta, Tensor
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build
from featlink.shared.pictures import decode
from featlink.shared.result import Telemetry


def frame_of(model: TorchvisionRCNN, picture: Path, domain: str) -> Frame:
    """What the edge would send."""
    image = decode(picture.read_bytes(), 1 << 28)
    if domain == "image":
        sizes = model.image_sizes(*image.shape[:2])
        tensors = [Tensor(IMAGE, np.ascontiguousarray(image.transpose(2, 0, 1)))]
    else:
        pyramid = model.encode(image)
        sizes, tensors = pyramid.sizes, [Tensor(name, level) for name, level in pyramid.levels.items()]
    return Frame(Meta(domain, model.name, model.weights, sizes), tuple(tensors))  # type: ignore[arg-type]


def zero_order_bits(samples: Samples) -> float:
    """Entropy of each channel's histogram, times its samples; the histograms are free."""
    bits = 0.0
    for channel in samples:
        counts = np.bincount(channel.ravel())
        counts = counts[counts > 0]
        bits -= float((counts * np.log2(counts / channel.size)).sum())
    return bits


def measure(frame: Frame, bits: int, threads: int) -> dict[str, float]:
    """Of one picture at one depth."""
    sent = transmit(frame, parse(f"{frame.meta.domain}: quantize(bits={bits})"), Telemetry(), fidelity=False)
    planes = {t.name: t.data for t in sent.frame.tensors}
    forms = {name: PictureFormat(plane.shape, bits) for name, plane in planes.items()}  # type: ignore[arg-type]
    started = time.perf_counter()
    with PlaneCoder(Entropy(), forms, Tools(threads=threads)) as coder:
        (coded,) = coder.push(planes)  # type: ignore[arg-type]  # it compares what it decodes
    wall = time.perf_counter() - started
    coded_bits = sum(picture.bits for picture in coded.pictures.values())
    dense = sum(8 * nbytes(plane.size, bits) for plane in planes.values())
    whole = sent.telemetry.bits or 0
    return {
        "ratio": (whole - dense + coded_bits) / whole,
        "zero_order": sum(zero_order_bits(plane) for plane in planes.values()) / dense,
        "zlib": sum(8 * len(zlib.compress(pack(plane.ravel(), bits))) for plane in planes.values()) / dense,
        "encode_ms": coded.encode_ms,
        "decode_ms": coded.decode_ms,
        "wall_ms": 1e3 * wall,
        "bits_per_sample": coded_bits / sum(plane.size for plane in planes.values()),
    }


def main() -> None:
    """Print one line a domain and depth, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--domain", choices=["feature", "image"], nargs="+", default=["feature", "image"])
    options = parser.parse_args()
    Entropy().encode(np.zeros((1, 1, 1), np.uint8), 1)  # compiles it
    model = build(ModelConfig(threads=options.threads), heads=False)
    pictures = list(open_dataset("starter").images.values())[: options.scenes]
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for picture in pictures:
        for domain in options.domain:
            frame = frame_of(model, picture, domain)
            for bits in options.bits:
                found[f"{domain} {bits}"].append(measure(frame, bits, options.threads))
        print(picture.name, {row: round(figures[-1]["ratio"], 4) for row, figures in found.items()}, flush=True)
    summary = {}
    for row, figures in found.items():
        mean = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
        mean["worst_ratio"] = max(one["ratio"] for one in figures)
        summary[row] = mean
        print(
            f"{row:<10} ratio {mean['ratio']:.3f} (worst {mean['worst_ratio']:.3f})  "
            f"zero order {mean['zero_order']:.3f}  zlib {mean['zlib']:.3f}  "
            f"{mean['bits_per_sample']:.2f} bit a sample  encode {mean['encode_ms']:.0f} ms  "
            f"decode {mean['decode_ms']:.0f} ms  both on {options.threads} threads {mean['wall_ms']:.0f} ms"
        )
    print(json.dumps({"scenes": len(pictures), **summary}))


if __name__ == "__main__":
    main()
