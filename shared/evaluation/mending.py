"""Repair common, unambiguous deviations of annotation tools from COCO's format.

Numbers that went through a table come as floats or text, fields that nobody filled in are missing, outlines are lists
of points. Every repair is counted and told, and none loses an object: one whose outline has no inside keeps its box.
(One of an image that the file does not list is of no image at all.)
Whatever could mean several things is left for :mod:`featlink.shared.evaluation.coco` to refuse.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain, pairwise
from typing import Any, TypeGuard

import msgspec
import numpy as np

from featlink.shared.errors import DatasetError
from featlink.shared.models.rle import run_lengths

SizeOf = Callable[[int], tuple[int, int] | None]
"""Width and height in pixels of the picture of an image id; None where it is not there."""
Entry = dict[str, Any]

_ENCODING = "text that is not UTF-8"
_LONGEST = 19
"""Digits of the greatest id."""


def decode(data: bytes) -> tuple[Any, Counter[str]]:
    """A JSON file's content, and what was wrong with its text: another encoding, a byte order mark, NaN.

    Raises:
        msgspec.DecodeError: it is not JSON.
        RecursionError: it is nested too deeply.

    Example:
        >>> decode(b'\\xef\\xbb\\xbf{"license": NaN}')
        ({'license': nan}, Counter({'byte order mark': 1, 'NaN, which is not JSON': 1}))
    """
    count: Counter[str] = Counter()
    encoding = json.detect_encoding(data)
    if encoding != "utf-8":
        try:
            data = data.decode(encoding).encode()
            count["byte order mark" if encoding == "utf-8-sig" else _ENCODING] += 1
        except UnicodeDecodeError:
            pass
    try:
        return msgspec.json.decode(data), count
    except msgspec.DecodeError:

        def constant(name: str) -> float:
            count[f"{name}, which is not JSON"] += 1
            return float(name)

        try:
            found = json.loads(data, parse_constant=constant)
        except ValueError:
            found = None
        if not count:
            raise
        return found, count


def repaired(data: Mapping[str, Any], size_of: SizeOf | None = None) -> tuple[dict[str, Any], Counter[str]]:
    """A copy of a ground truth in which each repair is made, and how often each was.

    Args:
        data: what the file decodes to.
        size_of: says how large a picture is, where the file does not.

    Raises:
        DatasetError: an annotation is of an image or a category that is not there.
    """
    count: Counter[str] = Counter()
    found = _filmed(data, count)
    ids: dict[str, dict[Any, int]] = {"image": {}, "category": {}}
    for name, what in (("images", "image"), ("categories", "category")):
        given = found.get(name)
        if _is_entries(given):
            entries, ids[what] = _identified(given, what, count)
            found[name] = [_image(one, count, size_of) if what == "image" else _category(one, count) for one in entries]
    if _is_entries(found.get("annotations")):
        listed = _listed(found["annotations"], ids["image"], count)
        mended = [_annotation(one, ids, count) for one in listed]
        found["annotations"] = _numbered(_outlined(mended, count), count)
        if _is_entries(found.get("categories")):
            used = {one.get("category_id") for one in mended if isinstance(one.get("category_id"), int)}
            named = [(one["id"], one.get("name", "")) for one in found["categories"] if isinstance(one.get("id"), int)]
            unused = twins(named, used)
            found["categories"] = [one for one in found["categories"] if not (unused and one["id"] in unused)]
            count += Counter({"category without objects that has another's name": len(unused)})
    return found, count


def _filmed(data: Mapping[str, Any], count: Counter[str]) -> dict[str, Any]:
    """A copy whose ids of videos and instances are integers, and whose videos say no more than they can.

    Ids that are names are numbered from 1 on, in the file's order.
    """
    found = dict(data)
    entries = data.get("videos")
    listed = [one for one in entries if "id" in one] if _is_entries(entries) else []
    if "videos" in data:
        count += Counter({"entry of a video without an id": len(entries) - len(listed) if _is_entries(entries) else 1})
    for table, key, known in (
        ("images", "video_id", [one["id"] for one in listed]),
        ("annotations", "instance_id", []),
    ):
        if not _is_entries(data.get(table)):
            continue
        rows = [_whole(one, (key, "frame_id"), count) for one in data[table]]
        values = [*known, *(one[key] for one in rows if one.get(key) is not None)]
        if names := [value for value in values if isinstance(value, str) and not value.isdecimal()]:
            numbers = {value: number for number, value in enumerate(dict.fromkeys(map(str, values)), 1)}
            count[f"{key} that is a name, numbered from 1 on"] += len(names)
            rows = [one if one.get(key) is None else {**one, key: numbers[str(one[key])]} for one in rows]
            if key == "video_id":
                listed = [{"name": str(one["id"]), **one, "id": numbers[str(one["id"])]} for one in listed]
        found[table] = rows
    found["videos"] = [_video(one, count) for one in listed]
    return found


def _video(one: Entry, count: Counter[str]) -> Entry:
    found = _whole({key: one[key] for key in ("id", "name", "fps") if key in one}, ("id",), count)
    fps = found.get("fps")
    if fps is not None and not (_is_numbers([fps]) and 0 < fps <= 1000):
        count["frame rate that is none"] += 1
        del found["fps"]
    return {**found, "name": str(found.get("name") or "")}


def told(count: Counter[str]) -> str:
    """Repairs in words.

    Example:
        >>> told(Counter({"area": 2, "iscrowd": 1}))
        'area (2), iscrowd (1)'
    """
    return ", ".join(f"{what} ({times:,})" for what, times in count.most_common())


def images(data: object) -> list[Entry]:
    """The image entries of what a file decodes to, with the ids that :func:`repaired` gives them.

    Raises:
        DatasetError: there is no list of entries with ids.
    """
    entries = data.get("images") if isinstance(data, Mapping) else None
    if not _is_entries(entries) or not all("id" in one for one in entries):
        raise DatasetError("there are no images with ids")
    return _identified(entries, "image", Counter())[0]


def plain_name(name: str) -> str:
    """A category's name without regard to case, ``_`` and ``-``."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split()) if name != "__background__" else name


def twins(categories: Iterable[tuple[Any, Any]], used: Collection[Any]) -> set[Any]:
    """Ids of categories (id, name) without objects that share their name with another, which stays.

    Such is the root that Roboflow writes: named as the project, which may be named as a class.

    Example:
        >>> twins([(0, "bus"), (1, "Bus"), (2, "van")], used={1, 2})
        {0}
    """
    by_name: dict[str, list[Any]] = {}
    for number, name in categories:
        if isinstance(name, str) and name:
            by_name.setdefault(plain_name(name), []).append(number)
    unused: set[Any] = set()
    for same in by_name.values():
        idle = [number for number in same if number not in used]
        unused.update(idle if len(idle) < len(same) else idle[1:])
    return unused


def _identified(entries: list[Entry], what: str, count: Counter[str]) -> tuple[list[Entry], dict[Any, int]]:
    """Entries of images or categories with integer ids, each once, and the integers by what the file has.

    Ids that are names are numbered from 1 on, in the file's order.
    """
    if not all(isinstance(one.get("id"), int | float | str) for one in entries):
        return entries, {}
    once = list({repr(one): one for one in entries}.values())
    count += Counter({f"{what} entry that is there twice": len(entries) - len(once)})
    whole = [_whole(one, ("id",), count) for one in once]
    if not any(isinstance(one["id"], str) for one in whole):
        return whole, {one["id"]: one["id"] for one in whole}
    count[f"{what} id that is a name, numbered from 1 on"] += len(whole)
    numbers = {one["id"]: number for number, one in enumerate(whole, start=1)}
    return [{**one, "id": numbers[one["id"]]} for one in whole], numbers


def _image(one: Entry, count: Counter[str], size_of: SizeOf | None) -> Entry:
    found = _whole(one, ("width", "height"), count)
    if size_of is not None and (found.get("width") is None or found.get("height") is None):
        size = size_of(found["id"]) if isinstance(found.get("id"), int) else None
        if size is not None:
            count["size of an image, which is its picture's"] += 1
            return {**found, "width": size[0], "height": size[1]}
    return found


def _category(one: Entry, count: Counter[str]) -> Entry:
    name = one.get("name", "")
    if isinstance(name, str):
        return one
    count["category without a name" if name is None else "category name that is no text"] += 1
    return {**one, "name": "" if name is None else str(name)}


def _listed(annotations: list[Entry], known: Mapping[Any, int], count: Counter[str]) -> list[Entry]:
    """Annotations of the images that there are, as of a file whose images were filtered; if there are none, all."""
    values = [_whole(one, ("image_id",), Counter()).get("image_id") for one in annotations]
    kinds = {type(one) for one in known}
    unlisted = [type(value) in kinds and value not in known for value in values]
    if all(unlisted):
        return annotations
    count += Counter({"object of an image that is not listed": sum(unlisted)})
    return [one for one, left in zip(annotations, unlisted, strict=True) if not left]


def _annotation(one: Entry, ids: Mapping[str, Mapping[Any, int]], count: Counter[str]) -> Entry:
    found = _whole(one, ("id", "image_id", "category_id", "iscrowd"), count)
    for what, known in ids.items():
        value = found.get(f"{what}_id")
        if isinstance(value, int | float | str) and value in known:
            found[f"{what}_id"] = known[value]
        elif any(isinstance(name, str) for name in known):  # a number would be another's
            raise DatasetError(f"annotation {one.get('id')}: there is no {what} {value}")
    if found.get("iscrowd") is None:
        found["iscrowd"] = 0
        count["missing iscrowd"] += 1
    found = _with_outline(found, count)
    if not _is_numbers(found.get("keypoints") or [0]):
        del found["keypoints"]
        count["keypoints that are no numbers"] += 1
    for key, of_outline in (("bbox", _bbox), ("area", _area)):
        found = _read(found, key, count)
        if found.get(key) in (None, []) and (value := of_outline(found)) is not None:
            found[key] = value
            count[f"missing {key}"] += 1
    return found


def _read(one: Entry, key: str, count: Counter[str]) -> Entry:
    """An annotation whose number or numbers at a key were text, or missing as tables write it."""
    value = one.get(key)
    values: list[Any] = value if isinstance(value, list) else [value]
    if any(isinstance(number, str) for number in values):
        try:
            values = [float(number) for number in values]
        except (TypeError, ValueError):
            return one
        count[f"{key} that is text"] += 1
    if _is_numbers(values) and any(map(math.isnan, values)) and one.get("segmentation"):
        return {**one, key: None}
    return {**one, key: values if isinstance(value, list) else values[0]} if key in one else one


def _with_outline(one: Entry, count: Counter[str]) -> Entry:
    """An annotation whose outline is a list of polygons, each with an inside."""
    outline: Any = one.get("segmentation")
    if outline in ("", {}):
        count["empty outline"] += 1
        return {**one, "segmentation": None}
    if not isinstance(outline, list) or not outline:
        return one
    if _is_numbers(outline):
        outline = [outline]
        count["outline that is not in a list"] += 1
    elif _is_points(outline):
        outline = [_flat(outline)]
        count["outline given as points"] += 1
    elif any(_is_points(polygon) for polygon in outline):
        outline = [_flat(polygon) if _is_points(polygon) else polygon for polygon in outline]
        count["outline given as points"] += 1
    kept = [polygon for polygon in outline if not (isinstance(polygon, list) and len(polygon) in (0, 2, 4))]
    count += Counter({"outline of less than three points": len(outline) - len(kept)})
    return {**one, "segmentation": kept}


def _outlined(annotations: list[Entry], count: Counter[str]) -> list[Entry]:
    """Objects without an outline, among others that have one, get their box's."""
    if not any(one.get("segmentation") for one in annotations):
        return annotations
    for index, one in enumerate(annotations):
        box = one.get("bbox")
        if not one.get("segmentation") and _is_box(box):
            x, y, width, height = box
            polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations[index] = one | {"segmentation": [polygon]}
            count["object without an outline, which got its box's"] += 1
    return annotations


def _numbered(annotations: list[Entry], count: Counter[str]) -> list[Entry]:
    """Annotations with ids of their own; nothing refers to these ids."""
    ids = [one.get("id") for one in annotations]
    named = sum(isinstance(one, str) for one in ids)
    count += Counter({"annotation id that is a name": named})
    different = len({str(one) for one in ids})
    if different < len(ids):
        count["annotation id that is not its own"] += len(ids) - different
    elif not named:
        return annotations
    return [one | {"id": number} for number, one in enumerate(annotations, start=1)]


def _whole(entry: Entry, keys: tuple[str, ...], count: Counter[str]) -> Entry:
    """An entry whose values at some keys are integers, where they are whole numbers or text of one."""
    found = dict(entry)
    for key in keys:
        value = entry.get(key)
        if (isinstance(value, bool) and key == "iscrowd") or (isinstance(value, float) and value.is_integer()):
            found[key] = int(value)
            count[f"{key} that is no integer"] += 1
        elif isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _LONGEST:
            found[key] = int(value)
            count[f"{key} that is text"] += 1
    return found


def _bbox(one: Entry) -> list[float] | None:
    """Around the outline: x, y, width, height in pixels."""
    outline: Any = one.get("segmentation")
    if isinstance(outline, list) and outline and all(_is_numbers(polygon) for polygon in outline):
        xs, ys = (list(chain.from_iterable(polygon[axis::2] for polygon in outline)) for axis in (0, 1))
        return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)] if xs and ys else None
    if (runs := _runs(outline)) is None or runs.sum() != np.prod(outline["size"]):
        return None
    ends = runs.cumsum()
    inside = [(first, last) for first, last in zip(ends[::2], ends[1::2] - 1, strict=False) if last >= first]
    if not inside:
        return [0.0, 0.0, 0.0, 0.0]
    (left, top), (right, bottom) = (np.divmod(side, outline["size"][0]) for side in np.array(inside).T)
    around = right > left  # a run that goes on in the next column touches top and bottom
    top, bottom = np.where(around, 0, top).min(), np.where(around, outline["size"][0] - 1, bottom).max()
    return [float(left.min()), float(top), float(right.max() - left.min() + 1), float(bottom - top + 1)]


def _area(one: Entry) -> float | None:
    """Of the outline, else of the box, in pixels²."""
    outline: Any = one.get("segmentation")
    if isinstance(outline, list) and outline and all(_is_numbers(polygon) for polygon in outline):
        return sum(_polygon_area(polygon) for polygon in outline)
    if (runs := _runs(outline)) is not None:
        return float(runs[1::2].sum())
    box: Any = one.get("bbox")
    return float(box[2]) * float(box[3]) if _is_box(box) else None


def _runs(outline: Any) -> np.ndarray | None:
    """Of a mask in run-length code; None where it is none."""
    if not isinstance(outline, dict):
        return None
    counts, size = outline.get("counts"), outline.get("size")
    try:
        runs = run_lengths(counts) if isinstance(counts, str) else counts
    except ValueError:
        return None
    if not (isinstance(runs, list) and isinstance(size, list) and len(size) == 2):
        return None
    if not all(isinstance(one, int) and 0 <= one < 1 << 32 for one in (*runs, *size)):
        return None
    return np.array(runs, np.int64)


def _polygon_area(polygon: list[float]) -> float:
    points = list(zip(polygon[::2], polygon[1::2], strict=False))
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*points, points[0]]))) / 2


def _is_entries(value: object) -> TypeGuard[list[Entry]]:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _is_points(value: Any) -> bool:
    """Whether these are points of one outline: [x, y] or {x, y} each."""
    return isinstance(value, list) and bool(value) and all(_point(one) is not None for one in value)


def _flat(points: list[Any]) -> list[float]:
    return [value for one in points for value in _point(one) or ()]


def _point(one: Any) -> tuple[float, float] | None:
    if isinstance(one, dict) and _is_numbers([one.get("x"), one.get("y")]):
        return one["x"], one["y"]
    return (one[0], one[1]) if _is_numbers(one) and len(one) == 2 else None


def _is_box(box: Any) -> TypeGuard[list[float]]:
    return _is_numbers(box) and len(box) == 4


def _is_numbers(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(x, int | float) for x in values)
