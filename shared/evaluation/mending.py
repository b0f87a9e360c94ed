"""Mends what annotation tools write into COCO files and what means nothing but what it says.

Numbers that went through a table come as floats, fields that nobody filled in are missing, an outline of two points
has no inside. Whatever could mean several things is left for :mod:`featlink.shared.evaluation.coco` to refuse.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_ENCODING = "text that is not UTF-8"
_FEW = 0.1
"""Share of objects that may lack an outline where the others have one."""


def decoded(data: bytes) -> tuple[bytes, Counter[str]]:
    """A JSON file as UTF-8 without a byte order mark, and what was done for that.

    Example:
        >>> decoded(b"\\xef\\xbb\\xbf{}")
        (b'{}', Counter({'byte order mark': 1}))
    """
    encoding = json.detect_encoding(data)
    if encoding == "utf-8":
        return data, Counter()
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return data, Counter()
    return text.encode(), Counter({"byte order mark" if encoding == "utf-8-sig" else _ENCODING: 1})


def repaired(data: Mapping[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
    """A copy of a ground truth in which each repair is made, and how often each was.

    Args:
        data: what the file decodes to.
    """
    count: Counter[str] = Counter()
    found = dict(data)
    for name in ("images", "categories"):
        entries = data.get(name)
        if isinstance(entries, list):
            found[name] = [_whole(entry, ("id", "width", "height"), count) for entry in entries]
    annotations = data.get("annotations")
    if isinstance(annotations, list) and all(isinstance(one, dict) for one in annotations):
        mended = [_annotation(one, count) for one in annotations]
        found["annotations"] = _numbered(_outlined(mended, count), count)
    return found, count


def told(count: Counter[str]) -> str:
    """Repairs in words.

    Example:
        >>> told(Counter({"area": 2, "iscrowd": 1}))
        'area (2), iscrowd (1)'
    """
    return ", ".join(f"{what} ({times:,})" for what, times in count.most_common())


def _whole(entry: Any, keys: tuple[str, ...], count: Counter[str]) -> Any:
    """An entry whose numbers at some keys are integers where they are whole."""
    if not isinstance(entry, dict):
        return entry
    found = dict(entry)
    for key in keys:
        value = entry.get(key)
        if (isinstance(value, bool) and key == "iscrowd") or (isinstance(value, float) and value.is_integer()):
            found[key] = int(value)
            count[f"{key} that is no integer"] += 1
    return found


def _annotation(one: dict[str, Any], count: Counter[str]) -> dict[str, Any]:
    found: dict[str, Any] = _whole(one, ("id", "image_id", "category_id", "iscrowd"), count)
    if found.get("iscrowd") is None:
        found["iscrowd"] = 0
        count["missing iscrowd"] += 1
    outline = found.get("segmentation")
    if isinstance(outline, list) and outline and all(isinstance(x, int | float) for x in outline):
        found["segmentation"] = outline = [outline]
        count["outline that is not in a list"] += 1
    if isinstance(outline, list) and (kept := [p for p in outline if not _has_no_inside(p)]) != outline:
        found["segmentation"] = kept
        count["outline of less than three points"] += len(outline) - len(kept)
    if found.get("area") is None and (area := _area(found)) is not None:
        found["area"] = area
        count["missing area"] += 1
    return found


def _has_no_inside(polygon: Any) -> bool:
    return isinstance(polygon, list) and len(polygon) in (0, 2, 4)


def _outlined(annotations: list[dict[str, Any]], count: Counter[str]) -> list[dict[str, Any]]:
    """A few objects without an outline, among others that have one, get their box's."""
    bare = [index for index, one in enumerate(annotations) if not one.get("segmentation")]
    if not bare or len(bare) > max(1, _FEW * len(annotations)) or len(bare) == len(annotations):
        return annotations
    for index in bare:
        one = annotations[index]
        box: Any = one.get("bbox")
        if _is_box(box):
            x, y, width, height = box
            polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations[index] = one | {"segmentation": [polygon]}
            count["object without an outline, which got its box's"] += 1
    return annotations


def _numbered(annotations: list[dict[str, Any]], count: Counter[str]) -> list[dict[str, Any]]:
    """Annotations with ids of their own; nothing refers to these ids."""
    ids = [one.get("id") for one in annotations]
    if len({str(one) for one in ids}) == len(ids):
        return annotations
    count["annotation id that is not its own"] += len(ids) - len({str(one) for one in ids})
    return [one | {"id": number} for number, one in enumerate(annotations, start=1)]


def _area(one: Mapping[str, Any]) -> float | None:
    """Of the outline, else of the box, in pixels²."""
    outline: Any = one.get("segmentation")
    box: Any = one.get("bbox")
    if isinstance(outline, list) and outline and all(_is_numbers(polygon) for polygon in outline):
        return sum(_polygon_area(polygon) for polygon in outline)
    if isinstance(outline, dict) and isinstance(runs := outline.get("counts"), list) and _is_numbers(runs):
        return float(sum(runs[1::2]))
    if _is_box(box):
        return float(box[2]) * float(box[3])
    return None


def _polygon_area(polygon: list[float]) -> float:
    points = list(zip(polygon[::2], polygon[1::2], strict=False))
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*points, points[0]]))) / 2


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and _is_numbers(box)


def _is_numbers(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(x, int | float) for x in values)
