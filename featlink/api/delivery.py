"""What came over the link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from featlink.api.signals import ModelPyramid
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FeatlinkError
from featlink.shared.features import FeatureMaps, Image
from featlink.shared.frames.wire import IMAGE, Frame

if TYPE_CHECKING:
    from featlink.shared.metrics.fidelity import Fidelity


@dataclass(frozen=True, eq=False, repr=False)
class Delivery:
    """What came over the link, and what it cost.

    Attributes:
        condition: that it was sent through.
        bits: that crossed the link: bitstreams or samples, with packet headers, side information and frame header.
        timings: milliseconds: ``distort``, ``serialize``, ``fidelity``; where there is such a step ``reduce``,
            ``compress``, ``decompress`` and ``restore``.
        bitstreams: what a codec made, by plane: ``p2``..``p6``, ``pyramid`` if stacked, ``latent`` if
            reduced, or ``image``.
        extension: of a file with such a bitstream.
        frame: as it left the channel.
        measured: the fidelity, or None where it was not asked for.
    """

    condition: Condition
    bits: int
    timings: Mapping[str, float]
    measured: Fidelity | None
    bitstreams: Mapping[str, bytes]
    extension: str
    frame: Frame

    @property
    def bpp(self) -> float:
        """Bits per pixel of the original picture."""
        height, width = self.frame.meta.sizes.original
        return self.bits / (height * width)

    @property
    def fidelity(self) -> Fidelity:
        """How near it is to what was sent: ``psnr``, ``ssim`` and, of features, ``spearman`` and ``levels``.

        Of an image, of the pixels; for its features see :func:`featlink.compare`.

        Raises:
            FeatlinkError: it was not measured.
        """
        if self.measured is None:
            raise FeatlinkError("fidelity was not measured: transmit with fidelity=True")
        return self.measured

    @cached_property
    def pyramid(self) -> FeatureMaps:
        """The features that came, as floats.

        Raises:
            FeatlinkError: an image was sent.
        """
        from featlink.cloud.finish import pyramid

        meta = self.frame.meta
        if meta.domain != "feature":
            raise FeatlinkError("an image was sent: see .image, or ask the model for .pyramid(sent)")
        received = pyramid(self.frame)
        return ModelPyramid(received.levels, received.sizes, meta.model, meta.weights, meta.key)

    @cached_property
    def image(self) -> Image:
        """The image that came, uint8 RGB: the network input (h, w, 3), or (H, W, 3) with ``at=original``.

        Raises:
            FeatlinkError: features were sent.
        """
        from featlink.cloud.finish import floats

        if self.frame.meta.domain != "image":
            raise FeatlinkError("features were sent: see .pyramid")
        tensor = self.frame.tensor(IMAGE)
        pixels = tensor.data if tensor.bits is None else np.rint(floats(tensor))
        return np.ascontiguousarray(pixels.astype(np.uint8).transpose(1, 2, 0))

    def __repr__(self) -> str:
        return f"<delivery of '{self.condition}', {self.bits:,} bits, {self.bpp:.3f} bpp>"
