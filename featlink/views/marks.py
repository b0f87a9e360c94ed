"""Lost and new detections marked on a picture, each by a shape of its own beside its colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from featlink.shared.detector.overlay import paint
from featlink.shared.frames.pyramid import Image
from featlink.views.matching import Detection, Matching

LOST = (230, 40, 60)
NEW = (255, 200, 0)
KEPT = (40, 170, 90)
SIDES = ((86, 180, 233), (240, 161, 60))
"""Colours of the two sides of a comparison."""

_DASH = 7
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def received_overlay(picture: Image, matching: Matching, names: Mapping[str, str]) -> Image:
    """What was received with its detections; lost ones dashed and crossed out, new ones in a double frame.

    Args:
        picture: uint8 RGB (H, W, 3).
        matching: of the received detections with the clean ones.
        names: category id, as text, to name.
    """
    canvas = paint(picture, [*(after for _, after in matching.kept), *matching.new], names, 0)
    _mark(canvas, matching, names)
    return canvas


def difference(clean: Image, received: Image | None, matching: Matching, names: Mapping[str, str]) -> Image:
    """What changed: the error of the pixels, or the dimmed picture, and every detection by what became of it.

    Args:
        clean: uint8 RGB (H, W, 3).
        received: of the same shape; None where features crossed the link, which have no pixels.
        matching: of the received detections with the clean ones.
        names: category id, as text, to name.
    """
    if received is None:
        grey = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY)
        canvas = np.repeat((70 + 0.35 * grey).astype(np.uint8)[..., None], 3, axis=2)
    else:
        canvas = cv2.convertScaleAbs(cv2.absdiff(clean, received), alpha=4).astype(np.uint8)
    for _, after in matching.kept:
        x, y, right, bottom = _corners(after)
        cv2.rectangle(canvas, (x, y), (right, bottom), KEPT, 2, cv2.LINE_AA)
    _mark(canvas, matching, names)
    return canvas


def versus(clean: Image, matchings: Mapping[str, Matching], names: Mapping[str, str]) -> Image:
    """Which of two sides kept which detection, on the dimmed picture.

    What both kept has a thin frame, what one alone kept or made up one in that side's colour with the side's name, and
    what both lost is dashed.

    Args:
        clean: uint8 RGB (H, W, 3).
        matchings: of each side's detections with the same clean ones, by the side's name.
        names: category id, as text, to name.
    """
    grey = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY)
    canvas = np.repeat((40 + 0.55 * grey).astype(np.uint8)[..., None], 3, axis=2)
    keepers: dict[int, list[str]] = {}
    originals: dict[int, Detection] = {}
    for side, matching in matchings.items():
        for before in (*(before for before, _ in matching.kept), *matching.lost):
            originals.setdefault(id(before), before)
        for before, _ in matching.kept:
            keepers.setdefault(id(before), []).append(side)
    for key, before in originals.items():
        sides = keepers.get(key, [])
        name = names.get(str(before["category_id"]), str(before["category_id"]))
        if len(sides) == len(matchings):
            x, y, right, bottom = _corners(before)
            cv2.rectangle(canvas, (x, y), (right, bottom), KEPT, 2, cv2.LINE_AA)
        elif sides:
            _frame(canvas, before, f"only {' and '.join(sides)}: {name}", SIDES[list(matchings).index(sides[0]) % 2])
        else:
            _mark(canvas, Matching([], [before], []), names)
    for i, (side, matching) in enumerate(matchings.items()):
        for after in matching.new:
            identity = str(after["category_id"])
            _frame(canvas, after, f"new in {side}: {names.get(identity, identity)}", SIDES[i % 2], double=True)
    return canvas


def _frame(canvas: Image, detection: Detection, text: str, colour: tuple[int, int, int], double: bool = False) -> None:
    x, y, right, bottom = _corners(detection)
    for margin in (0, 4) if double else (0,):
        corners = (x - margin, y - margin), (right + margin, bottom + margin)
        cv2.rectangle(canvas, *corners, colour, 1 if double else 3, cv2.LINE_AA)
    _label(canvas, text, (x, y, right, bottom), colour)


def _mark(canvas: Image, matching: Matching, names: Mapping[str, str]) -> None:
    for one in matching.lost:
        x, y, right, bottom = _corners(one)
        for start, end in (((x, y), (right, y)), ((right, y), (right, bottom)), ((x, bottom), (right, bottom))):
            _dashed(canvas, start, end)
        _dashed(canvas, (x, y), (x, bottom))
        cv2.line(canvas, (x, y), (right, bottom), LOST, 1, cv2.LINE_AA)
    for one in matching.new:
        x, y, right, bottom = _corners(one)
        for margin in (2, 5):
            cv2.rectangle(canvas, (x - margin, y - margin), (right + margin, bottom + margin), NEW, 1, cv2.LINE_AA)
    for what, colour, found in (("lost", LOST, matching.lost), ("new", NEW, matching.new)):
        for one in found:
            identity = str(one["category_id"])
            _label(canvas, f"{what}: {names.get(identity, identity)}", _corners(one), colour)


def _corners(detection: Detection) -> tuple[int, int, int, int]:
    x, y, width, height = detection["bbox"]
    return round(x), round(y), round(x + width), round(y + height)


def _dashed(canvas: Image, start: tuple[int, int], end: tuple[int, int]) -> None:
    a, b = np.array(start, float), np.array(end, float)
    length = float(np.hypot(*(b - a)))
    for at in np.arange(0, length, 2 * _DASH):
        ends = [a + (b - a) * min(place, length) / length for place in (at, at + _DASH)]
        first, last = ([round(float(value)) for value in point] for point in ends)
        cv2.line(canvas, first, last, LOST, 2, cv2.LINE_AA)


def _label(canvas: Image, text: str, corners: Sequence[int], colour: tuple[int, int, int]) -> None:
    """Below the box, where overlays put none of their own."""
    (width, height), base = cv2.getTextSize(text, _FONT, 0.45, 1)
    x = max(0, min(corners[0], canvas.shape[1] - width))
    top = max(0, min(corners[3], canvas.shape[0] - height - base - 1))
    cv2.rectangle(canvas, (x, top), (x + width, top + height + base), colour, cv2.FILLED)
    ink = (255, 255, 255) if sum(colour) < 382 else (0, 0, 0)
    cv2.putText(canvas, text, (x, top + height + 1), _FONT, 0.45, ink, 1, cv2.LINE_AA)
