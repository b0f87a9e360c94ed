"""Open a COCO data set: read its annotations, find its pictures in the layouts of several tools, and check both."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec
import xxhash

from featlink import open_images, video_folders
from featlink.drawn_clips import NAME, drawn_clips
from featlink.errors import CommandError
from featlink.shared.errors import DatasetError, ImageError
from featlink.shared.evaluation import coco, mending
from featlink.shared.evaluation.coco import Clip, GroundTruth
from featlink.starter.bundle import SCENES

Truth = Literal["annotations", "clean"]
"""What counts as right: annotations, or what the clean run detects."""

MAX_PIXELS = 1 << 28
"""Pixels of the largest picture."""

_SUFFIXES = video_folders.PICTURES
_OTHERS = (".heic", ".heif", ".avif", ".tif", ".tiff", ".gif", ".jp2", ".jxl", ".dng", ".cr2", ".nef", ".arw")
"""Pictures that Featlink does not decode."""
_ROBOFLOW = "_annotations.coco.json"
_JSON = ".[jJ][sS][oO][nN]"
_TASK = re.compile("^(instances|person_keypoints|captions|image_info)_")
"""What the names of COCO's own files begin with, before the split."""
_SHOWN = 5
RULE = (
    "pictures are looked for in X/ (of instances_X.json), images/X/, images/, data/ and JPEGImages/ beside the "
    "annotations, next to them, and by their base name; or give their folder with --pictures"
)


@dataclass(frozen=True)
class Dataset:
    """Where a data set is.

    Attributes:
        name: its folder's name.
        folder: where it is.
        annotations: the ground truth file; None for a folder of pictures alone.
        images: image id to picture file, in the file's order.
        source: what :func:`open_dataset` opens it by: the folder, or the file where the folder has several.
        notice: what of the folder is left out, in a line; empty if nothing is.
        document: what a CocoVID file of it would hold, where its files are of another format.
    """

    name: str
    folder: Path
    annotations: Path | None
    images: dict[int, Path]
    source: Path
    notice: str = ""
    document: Mapping[str, Any] | None = field(default=None, repr=False)

    def categories(self) -> dict[str, str]:
        """Category id, as text, to name; none for pictures alone."""
        found = self.document
        if found is None and self.annotations is not None:
            found = mending.decode(self.annotations.read_bytes())[0]
        entries = (found or {}).get("categories", [])
        return {str(one["id"]): str(one.get("name", one["id"])) for one in entries}


def open_dataset(path: str | Path, truth: Truth = "annotations", pictures: Path | None = None) -> Dataset:
    """Find a data set's ground truth and pictures.

    Args:
        path: a COCO instances file, or a folder that has one: ``annotations/instances_X.json``, a single ``.json``, or
            ``X/_annotations.coco.json``; ``starter`` for the bundled scenes, ``clips`` for :mod:`featlink.drawn_clips`;
            or videos, in any format that :func:`featlink.video_folders.read` takes, or what
            :func:`featlink.open_images.read` takes.
        truth: with ``clean``, a folder of pictures alone will do; they get the ids 1, 2, … by file name.
        pictures: the folder of the pictures; by default it is looked for (:data:`RULE`).

    Raises:
        CommandError: not such a folder or file. Whether the pictures are there is not looked at.
    """
    path = {Path("starter"): lambda: SCENES, Path(NAME): drawn_clips}.get(Path(path), lambda: Path(path))()
    if pictures is not None and not pictures.is_dir():
        raise CommandError(f"{pictures} is no folder of pictures")
    if (videos := video_folders.read(path, _size) or open_images.read(path, _size)) is not None:
        if truth != "clean" and not videos.annotated:
            raise CommandError(f"{path} has no annotations; with --truth clean, what the clean run detects is right")
        folder = videos.folder.resolve()
        return Dataset(videos.name, folder, None, videos.images, path.resolve(), videos.notice, videos.document)
    if truth == "clean" and path.is_dir() and not (path / "annotations").is_dir() and not _has_only_annotations(path):
        return _pictures_alone(path)
    if path.suffix.lower() == ".json":
        annotations = source = path
    else:
        annotations, source = _only_split(path), path
    try:
        entries = mending.images(mending.decode(annotations.read_bytes())[0])
        names = {int(entry["id"]): str(entry["file_name"]) for entry in entries}
    except OSError as error:
        raise CommandError(f"cannot read {annotations}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{annotations} is not JSON: {error}") from None
    except (DatasetError, ValueError, KeyError, TypeError):
        raise CommandError(f"{annotations} is not a COCO instances file: images with ids and file names") from None
    root = _root(annotations).resolve()
    if source == annotations and (files := _annotation_files(root)) and len(files) == 1 and files[0].samefile(source):
        source = root
    places = [pictures] if pictures is not None else _places(annotations)
    return Dataset(root.name, root, annotations, _found(names, places), source.resolve())


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
    if data.document is not None:
        try:
            return coco.read(_images_alone(data.document) if truth == "clean" else data.document)
        except DatasetError as error:
            raise DatasetError(f"{data.source}: {error}") from None
    if data.annotations is None:
        return GroundTruth([coco.Image(image_id, *_size(path)) for image_id, path in data.images.items()], [], []), ""

    def size_of(image_id: int) -> tuple[int, int] | None:
        path = data.images.get(image_id)
        return _size(path) if path is not None and path.is_file() else None

    text = data.annotations.read_bytes()
    try:
        if truth == "clean":  # nothing else of the file matters, so it need not be right, nor there
            return coco.read(_images_alone(mending.decode(text)[0]), size_of)
        return coco.read(text, size_of)
    except DatasetError as error:
        raise DatasetError(f"{data.annotations}: {error}") from None


def _images_alone(document: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: document[name] for name in ("images", "videos") if name in document}
    return {**kept, "categories": [], "annotations": []}


def find_clip(truth: GroundTruth, name: str) -> Clip:
    """A video of a data set.

    Args:
        truth: the data set's.
        name: of the video, or its id.

    Raises:
        CommandError: it has none of that name.
    """
    videos = [clip for clip in coco.clips(truth) if clip.video is not None]
    for clip in videos:
        if clip.video is not None and name in (clip.video.name, str(clip.id)):
            return clip
    names = [clip.video.name or str(clip.id) for clip in videos if clip.video is not None]
    raise CommandError(f"there is no clip {name!r}; there are {', '.join(names[:20]) or 'none'}")


def store_name(name: str) -> str:
    """A data set's name as the cloud's store takes it.

    Example:
        >>> store_name("my photos")
        'my-photos'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:64] or "dataset"


def _size(path: Path) -> tuple[int, int]:
    from featlink.shared.pictures import read_header  # loads OpenCV, which `featlink --help` does without

    try:
        return read_header(path.read_bytes(), MAX_PIXELS).size
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except ImageError as error:
        raise CommandError(f"{path}: {error}") from None


# Where annotations and pictures are.


def _annotation_files(folder: Path) -> list[Path]:
    """The ground truths of a folder: those of COCO and CVAT, else those of other tools."""
    for pattern in (f"annotations/instances_*{_JSON}", f"annotations/*{_JSON}", f"*{_JSON}", f"*/{_ROBOFLOW}"):
        if files := sorted(folder.glob(pattern)):
            return files
    return []


def _only_split(folder: Path) -> Path:
    """The ground truth of a folder, or of the one split whose pictures are there."""
    files = _annotation_files(folder)
    if not files:
        why = "is no folder, nor a .json file" if folder.is_file() else "has no annotations"
        raise CommandError(
            f"{folder} {why}: a data set is annotations/instances_X.json beside a folder X of pictures, or a .json "
            "file of its own, or X/_annotations.coco.json; tools of other formats export COCO's, too"
        )
    present = [file for file in files if any(place.is_dir() for place in _split_places(file))] or files
    if len(present) > 1:
        raise CommandError(f"{folder} has several splits; give the file of one, such as {present[0]}")
    return present[0]


def _root(annotations: Path) -> Path:
    return annotations.parent.parent if annotations.resolve().parent.name == "annotations" else annotations.parent


def _places(annotations: Path) -> list[Path]:
    """Folders in which the pictures may be, the likeliest first."""
    root = _root(annotations)
    likely = [*_split_places(annotations), root / "images", root / "data", root / "JPEGImages"]
    return [*sorted(map(_on_disk, likely), key=lambda place: not place.is_dir()), root, annotations.parent]


def _on_disk(folder: Path) -> Path:
    """A folder in the case that its name has on disk, if it is there."""
    if folder.is_dir():
        return folder
    try:
        beside = sorted(_on_disk(folder.parent).iterdir())
    except OSError:
        return folder
    return next((one for one in beside if one.name.casefold() == folder.name.casefold()), folder)


def _split_places(annotations: Path) -> list[Path]:
    """Folders that have the pictures of one annotation file alone."""
    root, split = _root(annotations), _TASK.sub("", annotations.stem)
    return [root] if annotations.name == _ROBOFLOW else [root / split, root / "images" / split]


def _found(names: Mapping[int, str], places: Sequence[Path]) -> dict[int, Path]:
    """Each picture's file; where it is nowhere, where it should be.

    Tools write a folder into the name, those of Windows its separators, those of the web %20 or + for a space;
    tables trim spaces; disks store names in another Unicode form or case.
    """
    listed: dict[Path, dict[str, list[Path]]] = {}
    tails = Counter(_tail(name) for name in names.values())

    def find(name: str) -> Path:
        tidy = name.replace("\\", "/")
        tries = [name, tidy, unquote(tidy)] + ([_tail(name)] if tails[_tail(name)] == 1 else [])
        for one in dict.fromkeys(tries):
            for place in places:
                if (place / one).is_file():
                    return place / one
        for one in dict.fromkeys(tries):
            for place in places:
                folder, last = (place / one).parent, _same(Path(one).name)
                if folder not in listed:
                    listed[folder] = _listed(folder)
                if len(alike := listed[folder].get(last, [])) == 1:
                    return alike[0]
        return places[0] / name

    return {image_id: find(name) for image_id, name in names.items()}


def _listed(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    try:
        for path in folder.iterdir():
            files.setdefault(_same(path.name), []).append(path)
    except OSError:  # no such folder
        pass
    return files


def _same(name: str) -> str:
    """A file name without regard to its Unicode form, its case, spaces around it, and %20 or + for one."""
    return " ".join(unicodedata.normalize("NFC", unquote(name)).casefold().replace("+", " ").split())


def _tail(name: str) -> str:
    name = urlsplit(name).path if "://" in name else name  # an address may have a signature behind its path
    return name.replace("\\", "/").rpartition("/")[2]


def _pictures_alone(folder: Path) -> Dataset:
    folder = folder.resolve()
    here = sorted(folder.iterdir())
    files = [path for path in here if path.suffix.lower() in _SUFFIXES and path.is_file()]
    others = [path.name for path in here if path.suffix.lower() in _OTHERS and path.is_file()]
    deeper = [f"{path.name}/" for path in here if path.is_dir() and _has_pictures(path)]
    notice = ""
    if left := others + deeper:
        shown = ", ".join(left[:_SHOWN]) + (f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else "")
        kinds = [f"{len(others)} of another format"] if others else []
        kinds += [f"{len(deeper)} folder{'s' if len(deeper) > 1 else ''} of pictures"] if deeper else []
        notice = f"left out of {folder.name}: {' and '.join(kinds)}: {shown}"
    if not files:
        raise CommandError(
            f"{folder} has neither annotations nor pictures ({', '.join(_SUFFIXES)})" + (notice and f"; {notice}")
        )
    return Dataset(folder.name, folder, None, dict(enumerate(files, 1)), folder, notice)


def _has_only_annotations(folder: Path) -> bool:
    """Whether a folder has annotations and no pictures of its own."""
    return bool(_annotation_files(folder)) and not any(path.suffix.lower() in _SUFFIXES for path in folder.iterdir())


def _has_pictures(folder: Path) -> bool:
    try:
        return any(path.suffix.lower() in _SUFFIXES + _OTHERS for path in folder.iterdir())
    except OSError:
        return False


# What can be known of the pictures before a network sees them.


@dataclass
class Checked:
    """Pictures as their files are.

    Attributes:
        digests: xxh3-128 of the content, by image id, of those that can be read.
        faults: why a picture cannot be evaluated, by image id.
        turned: pictures that EXIF turns without changing their size, so that nothing tells how they were annotated.
    """

    digests: dict[int, str] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    turned: list[Path] = field(default_factory=list)


def check_pictures(images: Mapping[int, Path], truth: GroundTruth) -> Checked:
    """Read pictures' headers: are they there, of a kind that can be decoded, and of the annotated size?

    Args:
        images: image id to picture file.
        truth: the ground truth.

    Raises:
        CommandError: the annotations are for pictures as they are stored and not as EXIF turns them, or no picture can
            be evaluated.
    """
    annotated = {image.id: (image.width, image.height) for image in truth.images}
    from featlink.shared.pictures import read_header

    found, as_stored = Checked(), list[Path]()
    for image_id, path in images.items():
        try:
            data = path.read_bytes()
            header = read_header(data, MAX_PIXELS)
        except OSError as error:
            found.faults[image_id] = f"cannot be read: {error.strerror}"
            continue
        except ImageError as error:
            found.faults[image_id] = str(error)
            continue
        found.digests[image_id] = xxhash.xxh3_128_hexdigest(data)
        if header.size != annotated[image_id]:
            (width, height), wanted = header.size, annotated[image_id]
            found.faults[image_id] = f"has {width}×{height} pixels, its annotations are for {wanted[0]}×{wanted[1]}"
            if header.stored == wanted:
                as_stored.append(path)
        elif header.turned and header.size == header.stored:
            found.turned.append(path)
    if as_stored:
        raise CommandError(
            f"{_count(as_stored)} annotated as stored, but EXIF says to turn {_them(as_stored)}, the first is "
            f"{as_stored[0]}; remove the orientation from the files, or annotate the turned pictures"
        )
    if images and len(found.faults) == len(images):
        first = next(iter(images))
        rule = "" if any(path.is_file() for path in images.values()) else f"; {RULE}"
        raise CommandError(
            f"none of the pictures can be evaluated, the first is {images[first]}: {found.faults[first]}{rule}"
        )
    return found


def turned_notice(turned: list[Path]) -> str:
    """What to tell of pictures that EXIF turns without changing their size."""
    return (
        f"{_count(turned)} turned by EXIF, the first is {turned[0].name}; their annotations are taken to be of the "
        "turned pictures. If yours are of the pictures as stored, remove the orientation from the files."
    )


def _count(paths: list[Path]) -> str:
    return "1 picture is" if len(paths) == 1 else f"{len(paths)} pictures are"


def _them(paths: list[Path]) -> str:
    return "it" if len(paths) == 1 else "them"
