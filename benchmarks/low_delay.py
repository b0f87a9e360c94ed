"""How strong the pixel anchors of streams are: bits at equal PSNR, against x265 without delay.

PSNR is that of what is received to the drawn clip without its sensor noise, in luma, so a coder gains nothing by coding
noise. Run with ``python -m benchmarks.low_delay``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.interpolate import PchipInterpolator

from featlink.channel.codecs.base import PictureFormat, PlaneCoder, Tools
from featlink.channel.codecs.video import VideoCodec
from featlink.channel.codecs.yuv import from_rgb
from featlink.shared.conditions.registry import steps
from featlink.starter.clips import MOTIONS, ClipConfig, Motion, clip

CODECS = ("hevc", "vvenc(preset=faster)", "vvenc(preset=fast)", "vvenc(preset=medium)")
QPS = (23, 27, 31, 36)
Curve = list[tuple[float, float]]
"""(kB a frame, dB) for each QP."""


def curve(name: str, noisy: list[np.ndarray], clean: list[np.ndarray]) -> Iterator[tuple[float, float]]:
    """Code a clip at each QP."""
    kind, _, preset = name.rstrip(")").partition("(preset=")
    offset = 4 if kind == "hevc" else 0  # VVenC codes most pictures at a QP higher by 6 to 8
    for qp in QPS:
        fields = {"preset": preset} if preset else {}
        codec = steps()[kind].model_validate({"qp": qp + offset, "gop": "low_delay", **fields})
        assert isinstance(codec, VideoCodec)
        with PlaneCoder(codec, {"": PictureFormat(noisy[0].shape)}, Tools(threads=1)) as coder:
            out = [one for picture in noisy for one in coder.push({"": picture})] + coder.close()
        bits = sum(one.pictures[""].bits for one in out)
        errors = [
            np.mean((luma(one.pictures[""].decoded) - luma(picture)) ** 2)
            for one, picture in zip(out, clean, strict=True)
        ]
        yield bits / 8000 / len(out), 10 * np.log10(1023**2 / np.mean(errors))


def luma(image: np.ndarray) -> np.ndarray:
    """Of an RGB image (3, H, W), in 10 bits."""
    return from_rgb(image)[: image[0].size].astype(float)


def saved(anchor: Curve, other: Curve) -> float:
    """BD-rate of one curve against another, in percent."""
    a, b = (PchipInterpolator(*np.array(sorted((dB, np.log(kB)) for kB, dB in curve)).T) for curve in (anchor, other))
    common = np.linspace(max(a.x[0], b.x[0]), min(a.x[-1], b.x[-1]), 100)
    return 100 * float(np.expm1(np.mean(b(common) - a(common))))


def pictures(seed: int, motion: Motion, frames: int, noise: bool) -> list[np.ndarray]:
    """Frames of a clip, (3, H, W)."""
    drawn = clip(seed, ClipConfig(motion, frames, noise=noise))
    return [np.ascontiguousarray(frame.scene.image.transpose(2, 0, 1)) for frame in drawn]


def main() -> None:
    """Print a table of codecs by motions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--seed", type=int, default=28000000)
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=["static", "handheld"])
    parser.add_argument("--codecs", nargs="+", choices=CODECS[1:], default=CODECS[1:])
    options = parser.parse_args()
    table = Table("bits at equal PSNR, against x265 without delay", *options.motions)
    codecs = [CODECS[0], *options.codecs]
    curves: dict[str, list[Curve]] = {codec: [] for codec in codecs}
    for motion, codec in track([*itertools.product(options.motions, codecs)], "coding"):
        noisy, clean = (pictures(options.seed, motion, options.frames, noise) for noise in (True, False))
        curves[codec].append([*curve(codec, noisy, clean)])
    for codec in options.codecs:
        rates = [saved(anchor, other) for anchor, other in zip(curves[CODECS[0]], curves[codec], strict=True)]
        table.add_row(codec, *(f"{rate:+.1f} %" for rate in rates))
    Console().print(table)


if __name__ == "__main__":
    main()
