"""A COCO data set: ``annotations/instances_<split>.json`` beside ``<split>/``, or the bundled one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featlink.errors import CommandError
from featlink.shared.errors import ImageError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import GroundTruth
from featlink.starter.bundle import SCENES

Truth = Literal["annotations", "clean"]
"""What counts as right: annotations, or what the clean run detects (:mod:`featlink.shared.evaluation.coco_results`)."""

MAX_PIXELS = 1 << 28
"""Pixels of the largest picture."""


_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class Dataset:
    """Where a data set is.

    Attributes:
        name: its folder's name.
        folder: where it is.
        annotations: the ground truth file; None for a folder of pictures alone.
        images: image id to picture file, in the file's order.
    """

    name: str
    folder: Path
    annotations: Path | None
    images: dict[int, Path]

    def categories(self) -> dict[str, str]:
        """Category id, as text, to name; none for pictures alone."""
        if self.annotations is None:
            return {}
        found = json.loads(self.annotations.read_bytes()).get("categories", [])
        return {str(one["id"]): str(one.get("name", one["id"])) for one in found}


def open_dataset(path: str | Path, truth: Truth = "annotations") -> Dataset:
    """Find a data set's ground truth and pictures.

    Args:
        path: a folder in COCO's layout with the pictures of one split, or one of its ``instances_<split>.json``;
            ``starter`` for the bundled scenes.
        truth: with ``clean``, a folder of pictures alone will do; they get the ids 1, 2, … by file name.

    Raises:
        CommandError: not such a folder or file. Whether the pictures are there is not looked at.
    """
    path = SCENES if Path(path) == Path("starter") else Path(path)
    if truth == "clean" and path.is_dir() and not (path / "annotations").is_dir():
        return _pictures_alone(path)
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
    folder = annotations.resolve().parent.parent
    return Dataset(folder.name, folder, annotations, images)


def missing(data: Dataset) -> list[Path]:
    """The pictures that are not there."""
    return [picture for picture in data.images.values() if not picture.is_file()]


def ground_truth(data: Dataset, truth: Truth = "annotations") -> tuple[GroundTruth, str]:
    """A data set's annotations; with ``clean``, its images alone, as what is right is not known before the clean run.

    Returns:
        The ground truth, and what had to be mended in its file (:func:`featlink.shared.evaluation.coco.read`).

    Raises:
        CommandError: a picture cannot be read.
        DatasetError: the annotations are not valid.
    """
    if data.annotations is not None:
        read, repairs = coco.read(data.annotations.read_bytes())
        return (GroundTruth(read.images, [], []) if truth == "clean" else read), repairs
    return GroundTruth([coco.Image(image_id, *_size(path)) for image_id, path in data.images.items()], [], []), ""


def _size(path: Path) -> tuple[int, int]:
    from featlink.shared.pictures import read_header  # loads OpenCV, which `featlink --help` does without

    try:
        return read_header(path.read_bytes(), MAX_PIXELS).size
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except ImageError as error:
        raise CommandError(f"{path}: {error}") from None


def _pictures_alone(folder: Path) -> Dataset:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not files:
        raise CommandError(f"{folder} has neither annotations nor pictures ({', '.join(_SUFFIXES)})")
    folder = folder.resolve()
    return Dataset(folder.name, folder, None, {number: folder / path.name for number, path in enumerate(files, 1)})


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
