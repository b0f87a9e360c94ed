"""Warm up the channel: run dummy frames at start-up, so that the first request does not pay one-off costs.

These are: loading the steps, compiling kernels or reading them from Numba's cache, and finding the codecs' programs.
"""

from __future__ import annotations

import contextlib

import numpy as np

from featlink.channel.codecs.base import CodecError, Tools
from featlink.channel.transmit import reference, transmit
from featlink.shared.conditions import language
from featlink.shared.conditions.language import Domain
from featlink.shared.features import Sizes
from featlink.shared.fpn import FPN
from featlink.shared.frames import wire
from featlink.shared.frames.wire import IMAGE, Frame, Meta, Tensor
from featlink.shared.result import Telemetry

_SIDE = 64
"""Of the network's input and of the image: what happens once costs the same for any size."""

_CONDITIONS = (
    "feature: identity",
    "feature: quantize(bits=4) | gaussian_blur(sigma=1) | gaussian_noise(sigma=1) | resize(factor=2)",
    "feature: monotone(gamma=2) | bit_error(ber=0.01) | packet_loss(rate=0.1)",
    # A kernel is compiled for each type of sample.
    "feature: rank_shuffle(span=4) @ bit_depth=8",
    "feature: rank_shuffle(span=4) @ bit_depth=16",
    "feature: clip(sigmas=3) | quantize(bits=4) | entropy",
    "feature: clip(sigmas=0.1) | quantize(bits=1) | entropy",  # more than half are 1: coded as signed values
    "image: quantize(bits=4)",
    "image: gaussian_blur(sigma=1) | gaussian_noise(sigma=1) | jpeg(quality=50)",
    "image: vvenc(qp=40, preset=faster) @ at=original",
)
"""Every step of Featlink's own whose first use costs something, and both domains."""


def warm(tools: Tools) -> None:
    """Send small frames through conditions of every kind, fidelity included.

    Args:
        tools: the codecs' programs; one that does not run is left to be told to whoever asks for its codec.
    """
    for text in _CONDITIONS:
        condition = language.parse(text)
        frame = _frame(condition.domain)
        with contextlib.suppress(CodecError):
            reference(frame, transmit(frame, condition, Telemetry(), tools=tools))


def _frame(domain: Domain) -> Frame:
    """As it is received: read from bytes."""
    rng = np.random.default_rng(0)
    size = (_SIDE, _SIDE)
    if domain == "image":
        tensors = [Tensor(IMAGE, rng.integers(0, 256, (3, *size), np.uint8))]
    else:
        tensors = [Tensor(name, rng.random(shape, np.float32)) for name, shape in FPN.shapes(size).items()]
    meta = Meta(domain, "", "", Sizes(size, size, size))
    return wire.read(b"".join(wire.write(Frame(meta, tuple(tensors)))))
