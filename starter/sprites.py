"""Read the drawings that scenes are composed of, as packed by :mod:`training.build_sprites`."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Part = Literal["train", "val", "held-out"]


@dataclass(frozen=True, eq=False)
class Sprite:
    """One drawing.

    Attributes:
        category_id: COCO's.
        style: name of its emoji set.
        artwork: ``family/name``: sprites of one artwork share a drawing.
        levels: RGBA uint8 (H, W, 4) with colours premultiplied by alpha; longer side 192, 96 and 48 pixels.
    """

    category_id: int
    style: str
    artwork: str
    levels: tuple[npt.NDArray[np.uint8], ...]


@functools.cache
def sprites(part: Part) -> dict[int, list[list[Sprite]]]:
    """The sprites of one part of the split: COCO category id → artworks → sprites.

    Example:
        >>> len(sprites("val")), sorted(sprites("train")) == sorted(sprites("val"))
        (23, True)
    """
    data = (resources.files("featlink.starter") / "data" / "sprites.zip").read_bytes()
    found: dict[int, dict[str, list[Sprite]]] = defaultdict(lambda: defaultdict(list))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in json.loads(archive.read("index.json")):
            if entry["part"] == part:
                image = cv2.imdecode(np.frombuffer(archive.read(entry["file"]), np.uint8), cv2.IMREAD_UNCHANGED)
                sprite = Sprite(
                    entry["category_id"], entry["style"], entry["artwork"], _levels(np.asarray(image, np.uint8))
                )
                found[sprite.category_id][sprite.artwork].append(sprite)
    return {category: list(artworks.values()) for category, artworks in sorted(found.items())}


def _levels(bgra: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], ...]:
    alpha = bgra[..., 3:].astype(np.uint16)
    colour = (bgra[..., 2::-1] * alpha + 127) // 255
    levels = [np.concatenate([colour, alpha], axis=2).astype(np.uint8)]
    for _ in range(2):
        height, width = levels[-1].shape[0] // 2, levels[-1].shape[1] // 2
        blocks = levels[-1][: 2 * height, : 2 * width].reshape(height, 2, width, 2, 4)
        levels.append(((blocks.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8))
    return tuple(levels)
