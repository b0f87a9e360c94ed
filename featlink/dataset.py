"""A COCO data set: ``annotations/instances_<split>.json`` beside ``<split>/``, or the bundled one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from featlink.errors import CommandError
from starter.bundle import SCENES

MAX_PIXELS = 1 << 28
"""Pixels of the largest picture."""


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


def open_dataset(path: str | Path) -> Dataset:
    """Find a data set's ground truth and pictures.

    Args:
        path: a folder in COCO's layout with the pictures of one split, or one of its ``instances_<split>.json``;
            ``starter`` for the bundled scenes.

    Raises:
        CommandError: not such a folder or file. Whether the pictures are there is not looked at.
    """
    path = SCENES if Path(path) == Path("starter") else Path(path)
    annotations = path if path.suffix == ".json" else _only_split(path)
    pictures = _pictures(annotations)
    try:
        entries = json.loads(annotations.read_bytes())["images"]
        images = {int(entry["id"]): _picture(pictures, entry["file_name"]) for entry in entries}
    except OSError as error:
        raise CommandError(f"cannot read {annotations}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CommandError(
            f"{annotations} is not a COCO instances file: images with integer ids and file names"
        ) from None
    return Dataset(annotations.resolve().parent.parent.name, annotations, images)


def missing(data: Dataset) -> list[Path]:
    """The pictures that are not there."""
    return [picture for picture in data.images.values() if not picture.is_file()]


def store_name(name: str) -> str:
    """A data set's name as the cloud's store takes it.

    Example:
        >>> store_name("my photos")
        'my-photos'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:64] or "dataset"


def _only_split(folder: Path) -> Path:
    """The ground truth of the one split whose pictures are there."""
    found = sorted((folder / "annotations").glob("instances_*.json"))
    present = [annotations for annotations in found if _pictures(annotations).is_dir()]
    if len(present) == 1:
        return present[0]
    if present:
        raise CommandError(f"{folder} has several splits; give the file of one, such as {present[0]}")
    raise CommandError(f"{folder} has no annotations/instances_X.json beside a folder X of pictures")


def _pictures(annotations: Path) -> Path:
    return annotations.parent.parent / annotations.stem.removeprefix("instances_")


def _picture(pictures: Path, name: str) -> Path:
    """A picture's file. Some tools write the folder into the name, and those of Windows its separators."""
    plain = pictures / name
    if plain.is_file():
        return plain
    tidy = name.replace("\\", "/")
    others = (pictures / tidy, pictures.parent / tidy)
    return next((path for path in others if path.is_file()), plain)
