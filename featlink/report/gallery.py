"""Pictures of the data set with detections, clean and distorted, and planes of features."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from featlink.dataset import MAX_PIXELS
from featlink.report.sweep import Sweep, label, pairs
from featlink.results import Row
from featlink.shared.errors import NotFoundError
from featlink.shared.features import Image
from featlink.shared.frames.packing import grid
from featlink.shared.models.overlay import paint
from featlink.shared.pictures import decode
from featlink.shared.store import Store

THRESHOLD = 0.5
"""Detections with lower scores are not drawn."""

_WIDTH = 400
_MOST_PAIRS = 5
_QUALITY = 72
"""Of WebP."""


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Attributes:
        source: data URI.
        width: pixels.
        height: pixels.
        title: what it is.
        domain: ``feature`` or ``image``, or nothing.
        note: what to see in it.
    """

    source: str
    width: int
    height: int
    title: str
    domain: str = ""
    note: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures that belong together.

    Attributes:
        caption: what they show.
        rows: pictures below one another in each column.
        pictures: column by column.
    """

    caption: str
    rows: int
    pictures: Sequence[Picture]


def picture(pixels: npt.NDArray[Any], title: str, domain: str = "", note: str = "", width: int = _WIDTH) -> Picture:
    """Make pixels a picture of the page, shrunk to ``width``."""
    small = shrink(pixels, width)
    return Picture(data_uri(small), small.shape[1], small.shape[0], title, domain, note)


def chosen_pairs(sweep: Sweep, most: int = _MOST_PAIRS) -> list[tuple[Row, Row]]:
    """What the gallery compares: of each distortion both domains have, the strength that costs most AP.

    Args:
        sweep: to choose from.
        most: pairs at most.
    """
    found: dict[str, tuple[Row, Row]] = {}
    for feature, image in pairs(sweep.families):
        twins = [(f, i) for f in feature.rows for i in image.rows if label(f) == label(i)]
        scored = [
            (f_ap + i_ap, f, i)
            for f, i in twins
            if (f_ap := sweep.ap(f)) is not None and (i_ap := sweep.ap(i)) is not None
        ]
        if scored and feature.type not in found:
            _, *worst = min(scored, key=lambda one: one[0])
            found[feature.type] = (worst[0], worst[1])
    return list(found.values())[:most]


def chosen_images(sweep: Sweep, store: Store, images: Mapping[int, Path], count: int) -> list[int]:
    """Ids of the first images in which the clean run finds two objects or more, filled up with others it has.

    Args:
        sweep: whose clean run decides.
        store: the sweep's database.
        images: image id to picture file: only these.
        count: how many.
    """
    clean = sweep.clean("feature") or sweep.clean("image")
    if clean is None:
        return []
    several: list[int] = []
    others: list[int] = []
    for result in store.results(clean.seeds[0].run):
        if len(several) == count:
            break
        if result.image_id in images:
            (several if len(_shown(result.detections)) > 1 else others).append(result.image_id)
    return [*several, *others][:count]


def overlays(
    store: Store,
    image_id: int,
    path: Path,
    names: Mapping[str, str],
    rows: Sequence[Row],
    distorted: Mapping[str, Image] | None = None,
) -> list[Picture]:
    """One image with its detections under each of some conditions.

    Args:
        store: the sweep's database.
        image_id: the image.
        path: its picture file.
        names: category id, as text, to name.
        rows: the conditions.
        distorted: row id of the image domain to what crossed the link; others are drawn on the clean picture.
    """
    pictures = []
    for row in rows:
        found = overlay(store, image_id, path, names, row, None if distorted is None else distorted.get(row.id))
        pictures.append(picture(found[0], label(row), row.domain, found[1]))
    return pictures


def overlay(
    store: Store, image_id: int, path: Path, names: Mapping[str, str], row: Row, received: Image | None = None
) -> tuple[Image, str]:
    """One image with its detections under a condition, and how many those are, in words.

    Args:
        store: the sweep's database.
        image_id: the image.
        path: its picture file.
        names: category id, as text, to name.
        row: the condition.
        received: what crossed the link; None takes the clean picture.
    """
    pixels = decode(path.read_bytes(), MAX_PIXELS)
    if received is not None:
        height, width = pixels.shape[:2]
        pixels = cv2.resize(received, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    try:
        detections = store.result(row.seeds[0].run, image_id).detections
    except NotFoundError:
        return pixels, "not evaluated"
    count = len(_shown(detections))
    return paint(pixels, detections, names, THRESHOLD), f"{count} object{'' if count == 1 else 's'} found"


def _shown(detections: Sequence[Any]) -> list[Any]:
    return [one for one in detections if one["score"] >= THRESHOLD]


def plane_strips(planes: Mapping[str, Mapping[str, npt.NDArray[np.uint8]]], channels: Mapping[str, int]) -> list[Strip]:
    """Packed planes of one image, clean and distorted.

    Args:
        planes: 8-bit planes by level, by condition.
        channels: of each level that is to be shown, finest first.

    Returns:
        A strip of whole planes, and one with a corner of the first level close up.
    """
    first, *_, last = channels
    rows, columns = grid(channels[first])
    whole, corners = [], []
    for title, by_level in planes.items():
        for level in channels:
            height, width = by_level[level].shape
            whole.append(picture(by_level[level], title, note=f"{level}, {width}×{height}", width=320))
        plane = by_level[first]
        corner = np.ascontiguousarray(plane[: 2 * plane.shape[0] // rows, : 2 * plane.shape[1] // columns])
        corners.append(picture(corner, title, note=f"channels 0, 1, {columns} and {columns + 1}"))
    order = f"{first} above {last}"
    caption = f"Planes as they cross the link: {channels[first]} channels as {rows}×{columns} tiles, {order}"
    return [
        Strip(caption, len(channels), whole),
        Strip(f"A corner of {first}: four channels close up", 1, corners),
    ]


def shrink(pixels: npt.NDArray[np.uint8], width: int) -> npt.NDArray[Any]:
    """A picture at most ``width`` wide, by averaging; smaller ones stay as they are."""
    if pixels.shape[1] <= width:
        return pixels
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def data_uri(pixels: npt.NDArray[Any]) -> str:
    """A picture as a WebP data URI.

    Args:
        pixels: uint8, RGB (H, W, 3) or grey (H, W).

    Example:
        >>> data_uri(np.zeros((4, 4), np.uint8))[:23]
        'data:image/webp;base64,'
    """
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1]
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()
