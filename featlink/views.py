"""Visualise one picture that is sent through a running deployment, clean and received."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures
from pycocotools import mask as mask_api

from featlink.client import Client
from featlink.shared.conditions.language import Domain, parse
from featlink.shared.errors import ConditionError
from featlink.shared.features import Image
from featlink.shared.frames.visualisation import plane, png
from featlink.shared.models.overlay import paint
from featlink.shared.result import InferenceResult


def compared(picture: Image, clean: InferenceResult, result: InferenceResult) -> bytes:
    """Clean | received | difference, as a PNG file's bytes.

    Args:
        picture: what was sent, uint8 RGB (H, W, 3).
        clean: the edge's result without distortion.
        result: the edge's result; with ``received``, the image that arrived is shown in the place of the clean one.
    """
    names = {**clean.categories, **result.categories}
    arrived = received_picture(result, picture.shape[:2])
    matching = match(clean.detections, result.detections)
    cells = [
        (f"clean: {len(matching.kept) + len(matching.lost)} found", paint(picture, clean.detections, names)),
        (
            f"received: {len(matching.kept)} kept, {len(matching.lost)} lost, {len(matching.new)} new",
            received_overlay(picture if arrived is None else arrived, matching, names, lost_rows(result)),
        ),
        (
            "difference" if arrived is None else "difference, pixels times 4",
            difference(picture, arrived, matching, names),
        ),
    ]
    return png(sheet([cells]))


def received_picture(result: InferenceResult, size: Sequence[int]) -> Image | None:
    """The image that arrived, at the size of the one that was sent; None where the result has none."""
    encoded = result.received.get("image")
    if encoded is None:
        return None
    pixels = decoded(encoded)
    if pixels.shape[:2] == tuple(size):
        return pixels
    return cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.uint8)


def decoded(encoded: str) -> Image:
    """A service's picture in base64, uint8: RGB (H, W, 3) or grey (H, W)."""
    with Pictures.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        return np.asarray(picture)


def domain_of(condition: str | None, domain: Domain | None) -> Domain:
    """What crosses the link under these, as the edge decides it.

    Raises:
        ConditionError: the condition cannot be read.
    """
    return domain or (parse(condition).domain if condition else "feature")


def planes_sheet(client: Client, data: bytes, result: InferenceResult) -> bytes:
    """The planes of each level before and after the link, as a PNG file's bytes.

    Args:
        client: of the deployment.
        data: the picture file.
        result: the edge's, with the levels that were ``received``.

    Raises:
        ConditionError: no features were received.
    """
    arrived = result.received
    sent = {tensor.name: tensor for tensor in client.features(data, "feature").tensors}
    if not sent.keys() & arrived.keys():
        raise ConditionError("planes are of features; an image crossed the link")
    rows = [
        ((f"{level} sent", plane(sent[level])), (f"{level} received", decoded(arrived[level])))
        for level in sent
        if level in arrived
    ]
    return png(sheet(rows))


Detection = Mapping[str, Any]
"""In COCO's results format."""

THRESHOLD = 0.5
"""Detections with lower scores are left out, as in overlays."""

_SAME = 0.5


@dataclass(frozen=True)
class Matching:
    """Received detections beside the clean ones.

    Attributes:
        kept: (clean, received) pairs of one object.
        lost: clean ones without a received one.
        new: received ones without a clean one.
    """

    kept: Sequence[tuple[Detection, Detection]]
    lost: Sequence[Detection]
    new: Sequence[Detection]


def match(clean: Sequence[Detection], received: Sequence[Detection], threshold: float = THRESHOLD) -> Matching:
    """Pair detections of one category whose boxes overlap by an IoU of a half or more, the greatest overlap first.

    Args:
        clean: found without distortion.
        received: found in what crossed the link.
        threshold: detections with lower scores are left out on both sides.

    Example:
        >>> cat = {"category_id": 17, "bbox": [0, 0, 10, 10], "score": 0.9}
        >>> found = match([cat, {**cat, "category_id": 18}], [{**cat, "score": 0.6}])
        >>> len(found.kept), len(found.lost), len(found.new)
        (1, 1, 0)
    """
    before = [one for one in clean if one["score"] >= threshold]
    after = [one for one in received if one["score"] >= threshold]
    overlap = _ious(before, after)
    kept: list[tuple[int, int]] = []
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = divmod(int(flat), len(after))
        if overlap[row, column] < _SAME:
            break
        if all(row != i and column != j for i, j in kept):
            kept.append((row, column))
    rows, columns = {i for i, _ in kept}, {j for _, j in kept}
    return Matching(
        [(before[i], after[j]) for i, j in sorted(kept)],
        [one for i, one in enumerate(before) if i not in rows],
        [one for j, one in enumerate(after) if j not in columns],
    )


def _ious(before: Sequence[Detection], after: Sequence[Detection]) -> npt.NDArray[np.float64]:
    """IoU of boxes (N, M); 0 between categories."""
    if not before or not after:
        return np.zeros((len(before), len(after)))
    a, b = (np.array([one["bbox"] for one in side], np.float64) for side in (before, after))
    labels = [np.array([one["category_id"] for one in side], np.int64) for side in (before, after)]
    same = labels[0][:, None] == labels[1][None]
    ious: npt.NDArray[np.float64] = np.where(same, mask_api.iou(a, b, [0] * len(after)), 0)
    return ious


LOST = (230, 40, 60)
NEW = (255, 200, 0)
KEPT = (40, 170, 90)
SIDES = ((86, 180, 233), (240, 161, 60))
"""Colours of the two sides of a comparison."""

_DASH = 7
_HATCH = 15
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def lost_rows(result: InferenceResult) -> Sequence[tuple[float, float]]:
    """Parts of a picture's height whose units were lost on the way."""
    return () if result.packets is None else result.packets.rows


def received_overlay(
    picture: Image, matching: Matching, names: Mapping[str, str], lost: Sequence[tuple[float, float]] = ()
) -> Image:
    """What was received with its detections; lost ones dashed and crossed out, new ones in a double frame.

    Args:
        picture: uint8 RGB (H, W, 3).
        matching: of the received detections with the clean ones.
        names: category id, as text, to name.
        lost: parts of the height, 0..1 from the top, that were lost on the way and are hatched.
    """
    canvas = paint(_hatched(picture, lost), [*(after for _, after in matching.kept), *matching.new], names, 0)
    _mark(canvas, matching, names)
    return canvas


def _hatched(picture: Image, parts: Sequence[tuple[float, float]]) -> Image:
    hatched, (height, width) = picture.copy(), picture.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    for top, end in parts:
        band = slice(round(top * height), round(end * height))
        lines = (rows[band] + columns) % _HATCH < _HATCH // 5
        hatched[band][lines] = hatched[band][lines] // 2 + np.array(LOST, np.uint8) // 2
    return hatched


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
        _outline(canvas, after, KEPT, 2)
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
        if len(sides) == len(matchings):
            _outline(canvas, before, KEPT, 2)
        elif sides:
            colour = SIDES[list(matchings).index(sides[0]) % 2]
            _outline(canvas, before, colour, 3)
            _label(canvas, f"only {' and '.join(sides)}", before, names, colour)
        else:
            _mark(canvas, Matching([], [before], []), names)
    for i, (side, matching) in enumerate(matchings.items()):
        for after in matching.new:
            for margin in (0, 4):
                _outline(canvas, after, SIDES[i % 2], 1, margin)
            _label(canvas, f"new in {side}", after, names, SIDES[i % 2])
    return canvas


def _outline(
    canvas: Image, detection: Detection, colour: tuple[int, int, int], thickness: int, margin: int = 0
) -> None:
    x, y, right, bottom = _corners(detection)
    corners = (x - margin, y - margin), (right + margin, bottom + margin)
    cv2.rectangle(canvas, *corners, colour, thickness, cv2.LINE_AA)


def _mark(canvas: Image, matching: Matching, names: Mapping[str, str]) -> None:
    for one in matching.lost:
        x, y, right, bottom = _corners(one)
        for start, end in (((x, y), (right, y)), ((right, y), (right, bottom)), ((x, bottom), (right, bottom))):
            _dashed(canvas, start, end)
        _dashed(canvas, (x, y), (x, bottom))
        cv2.line(canvas, (x, y), (right, bottom), LOST, 1, cv2.LINE_AA)
    for one in matching.new:
        for margin in (2, 5):
            _outline(canvas, one, NEW, 1, margin)
    for what, colour, found in (("lost", LOST, matching.lost), ("new", NEW, matching.new)):
        for one in found:
            _label(canvas, what, one, names, colour)


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


def _label(
    canvas: Image, what: str, detection: Detection, names: Mapping[str, str], colour: tuple[int, int, int]
) -> None:
    """Below the box, where overlays put none of their own."""
    identity, corners = str(detection["category_id"]), _corners(detection)
    text = f"{what}: {names.get(identity, identity)}"
    (width, height), base = cv2.getTextSize(text, _FONT, 0.45, 1)
    x = max(0, min(corners[0], canvas.shape[1] - width))
    top = max(0, min(corners[3], canvas.shape[0] - height - base - 1))
    cv2.rectangle(canvas, (x, top), (x + width, top + height + base), colour, cv2.FILLED)
    ink = (255, 255, 255) if sum(colour) < 382 else (0, 0, 0)
    cv2.putText(canvas, text, (x, top + height + 1), _FONT, 0.45, ink, 1, cv2.LINE_AA)


_GAP = 8
_CAPTION = 26


def sheet(rows: Sequence[Sequence[tuple[str, npt.NDArray[Any]]]]) -> Image:
    """Lay captioned pictures out on white, row by row.

    Args:
        rows: (caption, picture), uint8 RGB (H, W, 3) or grey (H, W).

    Returns:
        uint8 RGB.
    """
    bands = [_band(row) for row in rows]
    width = max(band.shape[1] for band in bands)
    return np.concatenate(
        [np.pad(band, ((0, 0), (0, width - band.shape[1]), (0, 0)), constant_values=255) for band in bands]
    )


def _band(row: Sequence[tuple[str, npt.NDArray[Any]]]) -> Image:
    height = max(picture.shape[0] for _, picture in row)
    cells = []
    for caption, picture in row:
        pixels = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        width = max(pixels.shape[1], cv2.getTextSize(caption, _FONT, 0.5, 1)[0][0] + 2)
        cell = np.full((height + _CAPTION + _GAP, width + _GAP, 3), 255, np.uint8)
        cell[_CAPTION : _CAPTION + pixels.shape[0], : pixels.shape[1]] = pixels
        cv2.putText(cell, caption, (1, _CAPTION - 9), _FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cell)
    return np.concatenate(cells, axis=1)
