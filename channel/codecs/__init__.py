"""Real coding of feature planes and images: VVC (VVenC), HEVC (x265), AV1 (SVT-AV1) and JPEG.

Example:
    >>> import numpy as np
    >>> from channel.codecs import Vvenc, code_plane
    >>> plane = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    >>> coded = code_plane(plane, Vvenc(qp=22))
    >>> coded.decoded.shape, coded.bits < 8 * plane.size // 10
    ((64, 64), True)
"""

from channel.codecs.av1 import Av1
from channel.codecs.coding import Codec, Coded, Settings, Tools, code_plane, code_planes, code_rgb
from channel.codecs.hevc import Hevc
from channel.codecs.jpeg import Jpeg
from channel.codecs.process import CodecError
from channel.codecs.vvenc import Vvenc

__all__ = [
    "Av1",
    "Codec",
    "CodecError",
    "Coded",
    "Hevc",
    "Jpeg",
    "Settings",
    "Tools",
    "Vvenc",
    "code_plane",
    "code_planes",
    "code_rgb",
]
