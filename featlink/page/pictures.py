"""Pictures in memory: what users sent, and what was drawn for them, by the hash of their content."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import xxhash

from featlink.shared.features import Image
from featlink.shared.pictures import decode
from featlink.starter.bundle import SCENES

MAX_PIXELS = 50_000_000
_THUMBNAIL = 160


class Pictures:
    """The most recent files, within a number of bytes.

    Args:
        limit: bytes of all together; the longest unused are dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Keep a file; returns its key, the same for the same content."""
        key = xxhash.xxh3_128_hexdigest(data)
        with self._lock:
            if key not in self._files:
                self._files[key] = data
                self._bytes += len(data)
            self._files.move_to_end(key)
            while self._bytes > self._limit and len(self._files) > 1:
                self._bytes -= len(self._files.popitem(last=False)[1])
        return key

    def get(self, key: str) -> bytes | None:
        """A file; None if it is not kept any more."""
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
            return self._files.get(key)


def scenes() -> list[str]:
    """File names of the bundled scenes."""
    return sorted(path.name for path in (SCENES / "val").iterdir())


def scene_path(name: str) -> Path | None:
    """A bundled scene; None where there is none of that name."""
    return SCENES / "val" / name if name in scenes() else None


@lru_cache(maxsize=128)
def thumbnail(name: str) -> bytes:
    """A bundled scene made small, as a JPEG file's bytes."""
    pixels = decode((SCENES / "val" / name).read_bytes(), MAX_PIXELS)
    height, width = pixels.shape[:2]
    scale = _THUMBNAIL / min(height, width)
    small = cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return jpeg(small.astype(np.uint8), 85)


def jpeg(pixels: npt.NDArray[np.uint8], quality: int = 92) -> bytes:
    """A JPEG file's bytes with colours at full resolution, so that thin lines stay sharp.

    Args:
        pixels: RGB (H, W, 3).
        quality: 0..100.
    """
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1])


def decoded(data: bytes) -> Image:
    """A picture file's pixels.

    Raises:
        ImageError: it is no picture.
    """
    return decode(data, MAX_PIXELS)
