"""Code planes (H, W), as the tests of codecs have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featlink.channel.codecs.base import Codec, CodedPicture, Tools, code


def code_plane(plane: np.ndarray, codec: Codec, tools: Tools | None = None, threads: int = 0) -> CodedPicture:
    result = code(plane[None], codec, replace(tools or Tools(), threads=threads))
    return replace(result, decoded=result.decoded[0])
