"""Read written marks in a recovered picture: the character that correlates best with what is at its known place."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from featlink.dataset import Dataset
from featlink.shared.errors import DatasetError
from featlink.shared.evaluation import mending
from featlink.shared.features import Array
from featlink.starter.marks import Kind, Mark, alphabet, glyph

_FLAT = 1e-3
"""Standard deviation of grey values below which there is nothing to read."""


class _Marked(msgspec.Struct):
    id: int
    marks: list[Mark] = []


def marks_of(data: Dataset) -> dict[int, list[Mark]]:
    """The marks that a data set's annotations list, by image id; empty where they list none.

    Raises:
        DatasetError: they are not such as ``featlink scenes --marks`` writes.
    """
    if data.annotations is None:
        return {}
    entries = mending.images(mending.decode(data.annotations.read_bytes())[0])
    try:
        found = msgspec.convert([entry for entry in entries if entry.get("marks")], list[_Marked])
        for mark in (mark for one in found for mark in one.marks):
            if not set(mark.text) <= set(alphabet(mark.kind)) or not mark.text or mark.scale < 1:
                raise ValueError(f"no mark of the kind {mark.kind}: {mark.text!r} in {mark.bbox}")
    except (msgspec.ValidationError, ValueError) as error:
        raise DatasetError(f"{data.annotations}: {error}") from None
    return {one.id: one.marks for one in found}


def read_marks(picture: Array, original: tuple[int, int], marks: Iterable[Mark]) -> tuple[int, int]:
    """How many characters can be read, and how many there are.

    A character counts as read where, of all characters of its alphabet, its own drawing has the largest normalised
    correlation with the grey values at its place. Guessing would read a tenth of digits and an eighth of faces.

    Args:
        picture: float32 RGB (3, h, w), any size.
        original: (height, width) of the picture that the marks' boxes are of.
        marks: that were put there.

    Returns:
        (read, all).
    """
    grey = picture.mean(axis=0)
    scale = np.array([grey.shape[1] / original[1], grey.shape[0] / original[0]])
    read = total = 0
    for mark in marks:
        for character, box in mark.cells():
            total += 1
            read += _best(_patch(grey, scale, box), mark.kind) == character
    return read, total


def _patch(grey: Array, scale: npt.NDArray[np.float64], box: tuple[int, int, int, int]) -> Array:
    """The pixels of a box, at the box's own size; boxes are in the original's pixels."""
    x, y, width, height = box
    offset = (np.array([x, y]) + 0.5) * scale - 0.5
    to_source = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(grey, to_source, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _best(patch: Array, kind: Kind) -> str | None:
    """The character whose drawing correlates best; None where the patch is flat."""
    values = patch - patch.mean()
    if values.std() < _FLAT:
        return None

    def alike(character: str) -> float:
        paper = 1.0 - glyph(kind, character).astype(np.float32)
        drawing = cv2.resize(paper, patch.shape[::-1], interpolation=cv2.INTER_NEAREST)
        drawing = drawing - drawing.mean()
        return float((values * drawing).sum() / np.linalg.norm(drawing))

    return max(alphabet(kind), key=alike)
