"""Small written marks: digits, plates and face-like glyphs that no detector needs, and that someone could read.

They tell what a picture that was recovered from a link still gives away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from featlink.starter.draws import Draws

Kind = Literal["digits", "plate", "face"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Pixels = npt.NDArray[np.uint8]

_DIGITS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "01110 10001 00001 00110 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 00100 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
_FACE = "001111100 010000010 100000001 100000001 100000001 100000001 100000001 010000010 001111100"
_EYES = (((3, 2), (3, 6)), ((2, 2), (3, 2), (2, 6), (3, 6)))
_MOUTHS = (
    ((5, 2), (6, 3), (6, 4), (6, 5), (5, 6)),
    ((6, 2), (5, 3), (5, 4), (5, 5), (6, 6)),
    ((6, 2), (6, 3), (6, 4), (6, 5), (6, 6)),
    ((5, 3), (5, 4), (5, 5), (6, 3), (6, 5), (7, 3), (7, 4), (7, 5)),
)
_LENGTHS = {"digits": (1, 3), "plate": (5, 6), "face": (1, 1)}
_SCALES = (2, 3, 4)
"""Pixels a side of a glyph's dot."""
_ATTEMPTS = 20


@dataclass(frozen=True)
class Mark:
    """A mark of a picture.

    Attributes:
        kind: what it looks like.
        text: its characters; a face is one of the letters a to h.
        bbox: x, y, width, height in pixels.
    """

    kind: Kind
    text: str
    bbox: tuple[int, int, int, int]

    @property
    def scale(self) -> int:
        """Pixels a side of a dot."""
        return self.bbox[3] // len(_bitmap(self.kind, self.text))

    def cells(self) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
        """Its characters, each with its box."""
        x, y, _, height = self.bbox
        for place, character in enumerate(self.text):
            width = self.scale * glyph(self.kind, character).shape[1]
            left = x + self.scale * (2 if self.kind == "plate" else 0) + place * width
            yield character, (left, y, width, height)


def alphabet(kind: Kind) -> str:
    """The characters that a mark of a kind may have."""
    return "abcdefgh" if kind == "face" else "0123456789"


def glyph(kind: Kind, character: str) -> npt.NDArray[np.bool_]:
    """Where a character is inked, with margins: (11, 7) of a plate, (9, 7) of other digits, (11, 11) of a face."""
    if kind == "face":
        number = alphabet(kind).index(character)
        dots = _dots(_FACE)
        for row, column in (*_EYES[number // len(_MOUTHS)], *_MOUTHS[number % len(_MOUTHS)]):
            dots[row, column] = True
        return np.pad(dots, 1)
    return np.pad(_dots(_DIGITS[int(character)]), ((2, 2) if kind == "plate" else (1, 1), (1, 1)))


def add_marks(image: Pixels, taken: npt.NDArray[np.bool_], draws: Draws, count: int) -> list[Mark]:
    """Put marks where nothing else is; fewer where there is no room.

    Args:
        image: RGB (H, W, 3), is changed.
        taken: (H, W), where objects and earlier marks are; is changed.
        draws: of kinds, texts, sizes, colours and places.
        count: how many.
    """
    marks = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        text = "".join(draws.choice(alphabet(kind)) for _ in range(draws.integer(*_LENGTHS[kind])))
        dots = np.kron(_bitmap(kind, text), np.ones((draws.choice(_SCALES),) * 2, bool)).astype(bool)
        paper = [draws.integer(190, 255) for _ in range(3)]
        ink = [draws.integer(0, 70) for _ in range(3)]
        height, width = dots.shape
        for _ in range(_ATTEMPTS):
            y, x = (draws.integer(0, max(0, room - side)) for room, side in zip(taken.shape, dots.shape, strict=True))
            place = slice(y, y + height), slice(x, x + width)
            if taken[place].shape == dots.shape and not taken[place].any():
                taken[place] = True
                image[place] = np.where(dots[..., None], ink, paper)
                marks.append(Mark(kind, text, (x, y, width, height)))
                break
    return marks


def _bitmap(kind: Kind, text: str) -> npt.NDArray[np.bool_]:
    dots = np.concatenate([glyph(kind, character) for character in text], axis=1)
    if kind == "plate":
        dots = np.pad(dots, ((0, 0), (2, 2)))
        dots[[0, -1]] = dots[:, [0, -1]] = True
    return dots


def _dots(rows: str) -> npt.NDArray[np.bool_]:
    return np.array([[dot == "1" for dot in row] for row in rows.split()])
