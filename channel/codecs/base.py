"""What every codec is: parameters, an encoder to bytes, and a decoder of those bytes alone.

A :class:`Codec` codes pictures; a :class:`SampleCodec` codes samples at any depth and loses nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from featlink.shared.conditions.registry import Kind, Step
from featlink.shared.frames.bitstream import Samples

Shape = tuple[int, int, int]
"""(C, H, W): C is 1 for a plane of features, 3 for an RGB image, or a level's number of channels."""


@dataclass(frozen=True)
class Tools:
    """The programs that code, and how long each may take.

    Attributes:
        timeout_s: seconds after which one encoder or decoder is killed.
        threads: cores to use; 0 for all. A bitstream must not depend on it.
        ffmpeg: path; None for the one bundled with ``imageio-ffmpeg``.
        vvencapp: path; None to let FFmpeg encode VVC.
        vvdecapp: path; None to let FFmpeg decode VVC.
    """

    timeout_s: float = 600.0
    threads: int = 0
    ffmpeg: str | None = None
    vvencapp: str | None = None
    vvdecapp: str | None = None


DEFAULT_TOOLS = Tools()


class Codec(Step, ABC):
    """A codec's parameters. Subclasses add ``type: Literal[<its name>]`` and their fields, and are registered.

    Attributes:
        container: extension of a file with one of its bitstreams.
    """

    kind: ClassVar[Kind] = "codec"
    changes_bits: ClassVar[bool] = True
    container: ClassVar[str]

    @property
    def plane_depth(self) -> int:
        """Bits per sample of the planes of features it takes, to 8 as uint8, above as uint16; images have 8."""
        return 8

    @abstractmethod
    def encode(self, picture: Samples, tools: Tools) -> bytes:
        """Code one picture.

        Args:
            picture: shape (1, H, W), a plane of features in 0..2**plane_depth - 1; or (3, H, W), uint8 RGB.
            tools: programs, time-out and threads.

        Returns:
            All that crosses the link; the shape is known at the other end.

        Raises:
            CodecError: the encoder failed.
        """

    @abstractmethod
    def decode(self, bitstream: bytes, shape: Shape, tools: Tools) -> Samples:
        """Decode what :meth:`encode` made of a picture of that shape.

        Returns:
            Samples of that shape and of the dtype that was encoded.

        Raises:
            CodecError: the decoder failed.
        """


class SampleCodec(Step, ABC):
    """A lossless codec of samples as they are packed: at the depth they have, channel by channel.

    Attributes:
        container: extension of a file with one of its bitstreams.
    """

    kind: ClassVar[Kind] = "codec"
    container: ClassVar[str]

    @abstractmethod
    def encode(self, samples: Samples, bits: int) -> bytes:
        """Code one level or image.

        Args:
            samples: (C, H, W), the channels of a level, or R, G and B; uint8 to 8 bits, else uint16.
            bits: their depth, 1..16.

        Returns:
            All that crosses the link; shape and depth are known at the other end.

        Raises:
            CodecError: the encoder failed.
        """

    @abstractmethod
    def decode(self, bitstream: bytes, shape: Shape, bits: int) -> Samples:
        """What :meth:`encode` was given, from what it made.

        Raises:
            CodecError: it cannot be what :meth:`encode` made of that shape.
        """
