"""Read Open Images' CSV files of boxes or masks as a COCO file, for :mod:`featlink.dataset`.

Files are known by their columns, whatever their names. Boxes around groups become crowds, and images say which classes
somebody looked for, as the challenge's metric needs it: see :mod:`featlink.shared.evaluation.open_images`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlink.errors import CommandError
from featlink.shared.evaluation.categories import upwards
from featlink.video_folders import Entry, SizeOf, Videos

_BOX = ("XMin", "YMin", "XMax", "YMax")
_COLUMNS = {
    "masks": {"MaskPath", "ImageID", "LabelName", *(f"Box{side}" for side in _BOX)},
    "boxes": {"ImageID", "LabelName", *_BOX},
    "labels": {"ImageID", "LabelName", "Confidence"},
}
"""By kind of file; a file is of the first kind whose columns it has."""


def read(path: Path, size_of: SizeOf) -> Videos | None:
    """Read a data set; None if it is none of Open Images.

    Args:
        path: a folder with the CSV files, or with them in ``annotations/``; a CSV file of boxes or masks in one; or a
            text file in one with an image id a line, as subsets are published. A folder's boxes are taken, else its
            masks.
        size_of: measures a picture.

    Raises:
        CommandError: it is one, but not right.
    """
    folder = path if path.is_dir() else path.parent
    if path.suffix not in ("", ".csv", ".txt") and not path.is_dir():
        return None
    folder = folder.parent if folder.name in ("annotations", "subsets") else folder
    tables: dict[str, list[Path]] = {}
    for file in sorted([*folder.glob("*.csv"), *folder.glob("annotations/*.csv")]):
        tables.setdefault(_kind(file), []).append(file)
    chosen = [path] if path.suffix == ".csv" else tables.get("boxes") or tables.get("masks") or []
    if not chosen or not {"boxes", "masks"} & tables.keys():
        return None
    if len(chosen) > 1 or len(tables.get("names", ())) != 1:
        raise CommandError(
            f"{folder}: one file of boxes or masks and one of class descriptions (/m/01g317,Person) are needed; "
            f"there are {', '.join(one.name for one in (*chosen, *tables.get('names', ())))}"
        )
    classes = _classes(
        tables["names"][0], [*folder.glob("*hierarchy*.json"), *folder.glob("annotations/*hierarchy*.json")]
    )
    wanted = path.read_text().split() if path.suffix == ".txt" else None
    try:
        rows = [one for one in _rows(chosen[0]) if wanted is None or one["ImageID"] in set(wanted)]
        looked = [one for file in tables.get("labels", ()) for one in _rows(file)]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise CommandError(f"{folder} cannot be read: {error}") from None
    names = wanted or list(dict.fromkeys(one["ImageID"].strip() for one in (*looked, *rows)))
    pictures = _pictures(folder, names)
    if lacking := [name for name in names if name not in pictures]:
        raise CommandError(f"{folder}: {len(lacking)} of {len(names)} pictures are not there, such as {lacking[0]}.jpg")
    numbers = {name: number for number, name in enumerate(names, 1)}
    sizes = {name: size_of(pictures[name]) for name in names}
    has_masks = _kind(chosen[0]) == "masks"
    annotations = [
        _annotation(number, one, numbers, sizes, classes, folder / "masks" if has_masks else None)
        for number, one in enumerate((one for one in rows if one["LabelName"] in classes.numbers), 1)
    ]
    verified = _verified(looked, annotations, numbers, classes)
    images = [
        {"id": numbers[name], "file_name": pictures[name].name, "width": sizes[name][0], "height": sizes[name][1]}
        | {"verified": sorted(verified[numbers[name]])}
        for name in names
    ]
    categories = [
        {"id": number, "name": classes.names[label], "parents": sorted(classes.parents.get(number, ()))}
        for label, number in classes.numbers.items()
    ]
    document = {"images": images, "categories": categories, "annotations": annotations}
    files = {numbers[name]: pictures[name] for name in names}
    return Videos(folder.resolve().name, folder, document, files, True)


@dataclass(frozen=True)
class _Classes:
    """The classes of a data set.

    Attributes:
        numbers: category id by label, such as ``/m/01g317``.
        names: by label.
        parents: ids of the classes above, by id.
    """

    numbers: Mapping[str, int]
    names: Mapping[str, str]
    parents: Mapping[int, set[int]]

    def below(self, number: int) -> set[int]:
        """A class and all below it."""
        return {
            one for one in self.numbers.values() if number in upwards(one, {k: [*v] for k, v in self.parents.items()})
        }


def _kind(file: Path) -> str:
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            first = next(csv.reader(text), [])
    except (OSError, csv.Error, UnicodeDecodeError):
        return ""
    if len(first) == 2 and first[0].startswith("/m/"):
        return "names"
    return next((kind for kind, columns in _COLUMNS.items() if columns <= {*first}), "")


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        yield from csv.DictReader(text)


def _classes(descriptions: Path, hierarchies: Sequence[Path]) -> _Classes:
    with descriptions.open(newline="", encoding="utf-8-sig") as text:
        names = {row[0]: row[1] for row in csv.reader(text) if len(row) == 2}
    numbers = {label: number for number, label in enumerate(names, 1)}
    parents: dict[int, set[int]] = {}
    if len(hierarchies) > 1:
        raise CommandError(
            f"{descriptions.parent} has several hierarchies: {hierarchies[0].name}, {hierarchies[1].name}"
        )

    def walk(node: Any, above: int | None) -> None:
        number = numbers.get(node["LabelName"])
        if number is not None and above is not None:
            parents.setdefault(number, set()).add(above)
        for part in node.get("Subcategory", ()):
            walk(part, number if number is not None else above)

    for file in hierarchies:
        try:
            walk(json.loads(file.read_bytes()), None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CommandError(f"{file} is not a hierarchy of Open Images: {type(error).__name__}") from None
    return _Classes(numbers, names, parents)


def _pictures(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Each picture's file, ``ID.jpg``, in the folder or in one of its folders but that of masks."""
    wanted = set(names)
    places = [
        folder,
        *(one for one in sorted(folder.iterdir()) if one.is_dir() and one.name not in ("annotations", "masks")),
    ]
    return {file.stem: file for place in reversed(places) for file in place.glob("*.jpg") if file.stem in wanted}


def _annotation(
    number: int,
    row: Mapping[str, str],
    numbers: Mapping[str, int],
    sizes: Mapping[str, tuple[int, int]],
    classes: _Classes,
    masks: Path | None,
) -> Entry:
    name, prefix = row["ImageID"].strip(), "Box" if masks else ""
    width, height = sizes[name]
    try:
        left, top, right, bottom = (float(row[prefix + side]) for side in _BOX)
    except ValueError:
        raise CommandError(f"a box of image {name} is not four numbers") from None
    box = [left * width, top * height, (right - left) * width, (bottom - top) * height]
    found: Entry = {
        "id": number,
        "image_id": numbers[name],
        "category_id": classes.numbers[row["LabelName"]],
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": int(row.get("IsGroupOf") or 0),
    }
    return found if masks is None else found | _mask(masks / row["MaskPath"], (height, width))


def _mask(file: Path, size: tuple[int, int]) -> Entry:
    import cv2
    import numpy as np
    from pycocotools import mask as mask_api

    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise CommandError(f"{file} is not a mask")
    if mask.shape != size:
        mask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
    rle = mask_api.encode(np.asfortranarray(mask > 0, np.uint8))
    counts = rle["counts"].decode()
    return {"segmentation": {"size": [*size], "counts": counts}, "area": float(mask_api.area(rle))}


def _verified(
    looked: Sequence[Mapping[str, str]], annotations: Sequence[Entry], numbers: Mapping[str, int], classes: _Classes
) -> dict[int, set[int]]:
    """Classes that somebody looked for, by image: what is there is so of all above it, what is not of all below it."""
    found: dict[int, set[int]] = {number: set() for number in numbers.values()}
    parents = {number: [*above] for number, above in classes.parents.items()}
    below: dict[int, set[int]] = {}
    for row in looked:
        image, category = numbers.get(row["ImageID"].strip()), classes.numbers.get(row["LabelName"])
        if image is None or category is None:
            continue
        if float(row["Confidence"]) > 0:
            found[image] |= upwards(category, parents)
        else:
            found[image] |= below.setdefault(category, classes.below(category))
    for one in annotations:
        found[one["image_id"]] |= upwards(one["category_id"], parents)
    return found
