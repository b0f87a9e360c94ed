"""Frames to send through the channel, and a reader of what it makes of them that shares no code with it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from featlink.channel.transmit import Transmission, transmit
from featlink.shared.conditions.language import parse
from featlink.shared.features import Sizes
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.result import Telemetry

SHAPES = {"p2": (20, 28), "p3": (10, 14), "p4": (5, 7), "p5": (3, 4), "p6": (2, 2)}
SIZES = Sizes((75, 110), (80, 112), (96, 128))

Levels = dict[str, np.ndarray]


def uniform(seed: int = 0) -> Levels:
    """Levels of 256 channels with uniformly spread values, each with a range of its own."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.random((256, *shape)) * 3**k - k).astype(np.float32)
        for k, (name, shape) in enumerate(SHAPES.items())
    }


def feature_frame(levels: Levels) -> Frame:
    return Frame(Meta("feature", "m", "w", SIZES), tuple(Tensor(*item) for item in levels.items()))


def image_frame(pixels: np.ndarray, resized: tuple[int, int]) -> Frame:
    sizes = Sizes(pixels.shape[1:], resized, resized)
    return Frame(Meta("image", "m", "w", sizes), (Tensor("image", pixels),))


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (3, height, width), dtype=np.uint8)


def send(frame: Frame, condition: str, telemetry: Telemetry | None = None, fidelity: bool = True) -> Transmission:
    return transmit(frame, parse(condition, frame.meta.domain), telemetry or Telemetry(), fidelity)


@dataclass(frozen=True)
class Received:
    """One tensor, parsed from a frame's bytes without the code under test."""

    bits: int | None
    samples: np.ndarray
    ranges: np.ndarray | None

    def floats(self) -> np.ndarray:
        """F' = q·(M - m)/(2^t - 1) + m in float64."""
        if self.bits is None or self.ranges is None:
            return self.samples.astype(np.float64)
        low, high = (self.ranges[:, side, None, None].astype(np.float64) for side in (0, 1))
        return self.samples * (high - low) / (2**self.bits - 1) + low


def pad(length: int) -> int:
    return -(-length // 64) * 64


def samples(payload: bytes, bits: int, count: int) -> np.ndarray:
    """Undo the dense t-bit stream, bit by bit."""
    if bits == 16:
        return np.frombuffer(payload, "<u2")
    if bits > 8:
        return np.frombuffer(payload[:count], np.uint8) + 256 * samples(payload[count:], bits - 8, count)
    ones = np.unpackbits(np.frombuffer(payload, np.uint8), bitorder="little")[: count * bits]
    return ones.reshape(count, bits) @ (1 << np.arange(bits))


def receive(sent: Transmission) -> tuple[dict[str, Any], dict[str, Received]]:
    """Parse a frame as documented; its length must be what header and payloads take, to the byte."""
    data = b"".join(sent.parts)
    magic, version, zero, header_bytes, _ = struct.unpack_from("<8sHHIQ", data)
    assert (magic, version, zero) == (b"FEATLINK", 1, 0)
    header = msgspec.msgpack.decode(data[24 : 24 + header_bytes])
    at, received = pad(24 + header_bytes), {}
    for name, dtype, shape, _, bits, ranges in ([*info, None, None][:6] for info in header["tensors"]):
        count = int(np.prod(shape))
        length = 4 * count if dtype == "float32" else count if bits is None else -(-count * bits // 8)
        payload = data[at : at + length]
        flat = np.frombuffer(payload, dtype) if bits is None else samples(payload, bits, count)
        pairs = None if ranges is None else np.frombuffer(ranges, "<f4").reshape(-1, 2)
        received[name] = Received(bits, flat.reshape(shape), pairs)
        at += pad(length)
    assert at == len(data)
    assert sent.telemetry.bits == 8 * len(data)
    return header, received


def psnr_f(reference: Levels, received: dict[str, Received]) -> float:
    """PSNR[F]: errors in the unit of 0..255 of each clean level, pooled over all samples."""
    errors = []
    for name, clean in reference.items():
        span = float(clean.max()) - float(clean.min())
        errors.append(((received[name].floats() - clean) * 255 / span).ravel())
    return float(10 * np.log10(255**2 / np.mean(np.concatenate(errors) ** 2)))
