"""A COCO data set folder, ``annotations/instances_<split>.json`` beside ``<split>/``, or the bundled one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from starter.bundle import SCENES


@dataclass(frozen=True)
class Dataset:
    """Where a data set is.

    Attributes:
        name: its folder's name.
        annotations: the ground truth file.
        images: image id to picture file, in the file's order.
    """

    name: str
    annotations: Path
    images: dict[int, Path]


def open_dataset(folder: Path) -> Dataset:
    """Find a data set's ground truth and pictures.

    Args:
        folder: in COCO's layout; ``starter`` for the bundled scenes.

    Raises:
        BenchError: not such a folder, or a picture is missing.
    """
    if folder == Path("starter"):
        folder = SCENES
    found = sorted((folder / "annotations").glob("instances_*.json"))
    if len(found) != 1:
        raise BenchError(f"{folder}: {len(found)} files match annotations/instances_*.json, expected one")
    pictures = folder / found[0].stem.removeprefix("instances_")
    try:
        entries = json.loads(found[0].read_bytes())["images"]
        images = {int(entry["id"]): pictures / entry["file_name"] for entry in entries}
    except (ValueError, KeyError, TypeError):
        raise BenchError(f"{found[0]} is not a COCO instances file") from None
    if missing := [path for path in images.values() if not path.is_file()]:
        raise BenchError(f"{len(missing)} pictures are missing, the first is {missing[0]}")
    return Dataset(folder.resolve().name, found[0], images)
