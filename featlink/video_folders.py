"""Read videos of other formats as CocoVID: MOTChallenge and SFU-HW folders, pictures in order, and video files.

Each reader makes what a CocoVID file would hold, which is then checked as such a file is. Frames are numbered as their
files are; an annotation of a frame that is not there is refused.
"""

from __future__ import annotations

import configparser
import csv
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from featlink.errors import CommandError
from featlink.shared import files
from featlink.shared.errors import FeatlinkError
from featlink.shared.evaluation import mending

PICTURES = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp")
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".y4m", ".ts", ".h264", ".264", ".h265", ".265", ".hevc")

Size = tuple[int, int]
SizeOf = Callable[[Path], Size]
"""Width and height of a picture file."""
Entry = dict[str, Any]

_PERSON, _BICYCLE, _CAR, _MOTORCYCLE = 1, 2, 3, 4
_MOT_CLASSES = {
    1: _PERSON,
    2: _PERSON,
    3: _CAR,
    4: _BICYCLE,
    5: _MOTORCYCLE,
    7: _PERSON,
    8: _PERSON,
    12: _PERSON,
    13: _PERSON,
}
"""COCO's category of MOTChallenge's classes; 6 (vehicles without a motor) and occluders, 9 to 11, have none."""
_MOT_KNOWN = range(1, 14)
_MOT_NAMES = {_PERSON: "person", _BICYCLE: "bicycle", _CAR: "car", _MOTORCYCLE: "motorcycle"}
_MOT_TAKEN = {1, 3, 4, 5}
"""Classes to be found, where their row says so; finding another one is neither right nor wrong."""
_LEAST_VISIBLE = 0.1
"""Share of an object that is seen; with less of it, finding it is neither right nor wrong."""
_MOT_DETECTORS = re.compile(r"(.+)-(DPM|FRCNN|SDP)")
"""MOT17 has each sequence three times, for three detectors, with the same pictures."""
_SFU_NAME = re.compile(r"(?P<name>.+?)_(?P<width>\d+)x(?P<height>\d+)_(?P<fps>\d+)")
_PATTERN = re.compile(r"%(0?)(\d*)d")
_KEPT_DAYS = 30
_SHOWN = 5


@dataclass(frozen=True)
class Videos:
    """A data set of videos, read.

    Attributes:
        name: of the data set.
        folder: where it is.
        document: as a CocoVID file has it; without annotations if there are none.
        images: image id to picture file.
        annotated: whether there are annotations.
        notice: what of it is left out, in a line; empty if nothing is.
    """

    name: str
    folder: Path
    document: Mapping[str, Any]
    images: dict[int, Path]
    annotated: bool
    notice: str = ""


@dataclass(frozen=True)
class _Video:
    """One video.

    Attributes:
        name: of it.
        frames: picture file by frame number.
        size: of every picture, (width, height).
        fps: frames a second; None where nothing says.
        objects: CocoVID's annotations, with ``frame`` in place of the image's id; None without annotations.
        categories: name by id, of those that the file names.
    """

    name: str
    frames: Mapping[int, Path]
    size: Size
    fps: float | None
    objects: Sequence[Entry] | None
    categories: Mapping[int, str] = field(default_factory=dict)


def read(path: Path, size_of: SizeOf) -> Videos | None:
    """Read a data set of videos; None if it is none of these formats.

    Args:
        path: a MOTChallenge sequence or a folder of some, an SFU-HW sequence or a folder of some, pictures as FFmpeg
            names them (``frames/%06d.png``), or a video file, whose frames are unpacked into the user's cache.
        size_of: measures a picture.

    Raises:
        CommandError: it is one, but not right.
    """
    if _PATTERN.search(path.name):
        return _assembled(path.parent, [_in_order(path, size_of)])
    if path.is_file() and path.suffix.lower() in VIDEOS:
        video = replace(_in_order(_unpacked(path) / "%06d.png", size_of), name=path.stem, fps=_rate(path))
        return replace(_assembled(path.parent, [video]), name=path.stem)
    if not path.is_dir():
        return None
    for is_one, read_one in ((_is_mot, _read_mot), (_is_sfu, _read_sfu)):
        folders = [path] if is_one(path) else sorted(one for one in path.iterdir() if is_one(one))
        if folders:
            folders, notice = _once(folders)
            return _assembled(path, [read_one(folder, size_of) for folder in folders], notice)
    return None


def _assembled(folder: Path, videos: Sequence[_Video], notice: str = "") -> Videos:
    images, entries, annotations = dict[int, Path](), list[Entry](), list[Entry]()
    gaps = []
    for id, video in enumerate(videos, 1):
        numbers = sorted(video.frames)
        if numbers[-1] - numbers[0] >= len(numbers):
            gaps.append(video.name)
        ids = {}
        for number in numbers:
            ids[number] = len(images) + 1
            images[ids[number]] = video.frames[number]
            entry = {"id": ids[number], "file_name": video.frames[number].name, "video_id": id, "frame_id": number}
            entries.append({**entry, "width": video.size[0], "height": video.size[1]})
        for one in video.objects or ():
            entry = {key: value for key, value in one.items() if key != "frame"}
            annotations.append({**entry, "id": len(annotations) + 1, "image_id": ids[one["frame"]]})
    if gaps:
        notice += ("; " if notice else "") + f"frames are missing, and pass for none, in {_list(gaps)}"
    names = {id: name for video in videos for id, name in video.categories.items()}
    used = {one["category_id"] for one in annotations}
    document = {
        "videos": [
            {"id": id, "name": video.name} | ({} if video.fps is None else {"fps": video.fps})
            for id, video in enumerate(videos, 1)
        ],
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": id, "name": names.get(id, "")} for id in sorted({*names, *used})],
    }
    without = [video.name for video in videos if video.objects is None]
    if without and len(without) < len(videos):
        raise CommandError(f"{folder} has no annotations of {_list(without)}")
    return Videos(folder.resolve().name, folder, document, images, not without, notice)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _numbered(folder: Path) -> dict[int, Path]:
    """Pictures of a folder by the last number of their names.

    Raises:
        CommandError: there are none, one has no number, or two have the same.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in PICTURES or path.name.startswith("."):
            continue
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            raise CommandError(f"{path} has no frame number in its name")
        if (number := int(digits[-1])) in found:
            raise CommandError(f"{found[number].name} and {path.name} in {folder} are both frame {number}")
        found[number] = path
    if not found:
        raise CommandError(f"{folder} has no pictures")
    return dict(sorted(found.items()))


def _check_frames(where: Path, annotated: Iterable[int], frames: Mapping[int, Path]) -> None:
    """See that annotations count frames as pictures do.

    Raises:
        CommandError: they do not, or it cannot be told.
    """
    first, last = min(frames), max(frames)
    counted = set(annotated)
    if unknown := counted - frames.keys():
        raise CommandError(
            f"{where} annotates frames {min(counted)} to {max(counted)}, the pictures are {first} to {last}: "
            f"there is none of frame {min(unknown)}"
        )
    if first == 0 and counted and 0 not in counted:
        raise CommandError(
            f"{where} begins with frame {min(counted)} and the pictures with 0: it cannot be told whether both count "
            "from 0; number the pictures from 1, or annotate frame 0"
        )


def _once(folders: Sequence[Path]) -> tuple[list[Path], str]:
    """Of the same sequence for several detectors, the first."""
    kept: dict[str, Path] = {}
    for folder in folders:
        match = _MOT_DETECTORS.fullmatch(folder.name)
        kept.setdefault(match[1] if match else folder.name, folder)
    left = [folder.name for folder in folders if folder not in kept.values()]
    return list(kept.values()), f"left out, as their pictures are there already: {_list(left)}" if left else ""


# MOTChallenge: seqinfo.ini, img1/, gt/gt.txt.


def _is_mot(folder: Path) -> bool:
    annotated = (folder / "gt" / "gt.txt").is_file() and (folder / "img1").is_dir()
    return folder.is_dir() and (annotated or (folder / "seqinfo.ini").is_file())


def _read_mot(folder: Path, size_of: SizeOf) -> _Video:
    info = configparser.ConfigParser(interpolation=None)
    try:
        info.read(folder / "seqinfo.ini", encoding="utf-8-sig")
        section = dict(info["Sequence"]) if info.has_section("Sequence") else {}
    except (configparser.Error, UnicodeDecodeError) as error:
        raise CommandError(f"{folder / 'seqinfo.ini'}: {' '.join(str(error).split())}") from None
    frames = _numbered(folder / section.get("imdir", "img1"))
    if "seqlength" in section and (length := _integer(folder / "seqinfo.ini", section["seqlength"])) < len(frames):
        raise CommandError(f"{folder / 'seqinfo.ini'} says {length} frames, there are {len(frames)} pictures")
    size = size_of(next(iter(frames.values())))
    fps = _number(folder / "seqinfo.ini", section["framerate"]) if "framerate" in section else None
    table = folder / "gt" / "gt.txt"
    objects = list(_mot_objects(table, size, frames)) if table.is_file() else None
    used = {one["category_id"] for one in objects or ()}
    names = {id: name for id, name in _MOT_NAMES.items() if id in used}
    return _Video(section.get("name", folder.name), frames, size, fps, objects, names)


def _mot_objects(table: Path, size: Size, frames: Mapping[int, Path]) -> Iterator[Entry]:
    rows = list[list[float]]()
    with table.open(newline="", encoding="utf-8-sig") as file:
        for line, cells in enumerate(csv.reader(file), 1):
            if not "".join(cells).strip():
                continue
            if len(cells) < 6:
                raise CommandError(f"{table}, line {line}: {len(cells)} columns, not frame, id, x, y, width, height, …")
            values = [_number(f"{table}, line {line}", value) for value in cells]
            rows.append(values + [1.0] * (7 - len(values)))
    _check_frames(table, (int(row[0]) for row in rows), frames)
    seen: set[tuple[int, int]] = set()
    for row in rows:
        frame, track, x, y, width, height, flag = row[:7]
        # Files of 2015 have world coordinates, or -1, where those of later years have class and visibility.
        kind = int(row[7]) if len(row) in (8, 9) and row[7] >= 0 else 1
        visible = row[8] if len(row) == 9 and row[7] >= 0 else 1.0
        if kind not in _MOT_KNOWN:
            raise CommandError(f"{table}: class {kind} is none of MOTChallenge's 1 to 13")
        box = _clipped((x - 1, y - 1, width, height), size)  # MOTChallenge counts pixels from 1
        if kind not in _MOT_CLASSES or box is None:
            continue
        ignored = kind not in _MOT_TAKEN or not flag or visible < _LEAST_VISIBLE
        if not ignored and (int(frame), int(track)) in seen:
            raise CommandError(f"{table} has object {track:.0f} twice in frame {frame:.0f}")
        seen.add((int(frame), int(track)))
        yield _object(int(frame), _MOT_CLASSES[kind], box, int(track), crowd=ignored)


# SFU-HW: NAME_WIDTHxHEIGHT_FPS…/images/ with annotations/*.json, or a text file for each frame.


def _is_sfu(folder: Path) -> bool:
    return (
        folder.is_dir()
        and _SFU_NAME.match(folder.name) is not None
        and (folder / "images").is_dir()
        and (folder / "annotations").is_dir()
    )


def _read_sfu(folder: Path, size_of: SizeOf) -> _Video:
    frames = _numbered(folder / "images")
    size, match = size_of(next(iter(frames.values()))), _SFU_NAME.match(folder.name)
    fps = float(match["fps"]) if match and int(match["fps"]) else None
    video = _Video(folder.name, frames, size, fps, None)
    if documents := sorted((folder / "annotations").glob("*.json")):
        if len(documents) > 1:
            raise CommandError(f"{folder / 'annotations'} has several files: {_list([one.name for one in documents])}")
        return _with_document(video, documents[0])
    texts = sorted((folder / "annotations").glob("*.txt"))
    if not texts:
        return video
    objects = list[Entry]()
    numbers = dict[int, Path]()
    for path in texts:
        number = int(re.findall(r"\d+", path.stem)[-1]) if re.search(r"\d", path.stem) else -1
        if number in numbers:
            raise CommandError(f"{numbers[number].name} and {path.name} are both of frame {number}")
        numbers[number] = path
        objects += list(_sfu_objects(path, number, size))
    _check_frames(folder / "annotations", numbers, frames)
    return replace(video, objects=objects)


def _with_document(video: _Video, path: Path) -> _Video:
    """With the annotations of a COCO file, whose images need no more than the pictures' names."""
    by_name = {file.name: number for number, file in video.frames.items()}
    try:
        document = mending.repaired(mending.decode(path.read_bytes())[0], lambda _: video.size)[0]
        frames = {one["id"]: by_name.get(Path(one["file_name"]).name) for one in document["images"]}
        names = {one["id"]: one.get("name", "") for one in document["categories"]}
        objects = [{**one, "frame": frames[one["image_id"]]} for one in document["annotations"]]
    except (FeatlinkError, msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CommandError(f"{path} is not a COCO instances file") from None
    if lost := [one["file_name"] for one in document["images"] if frames[one["id"]] is None]:
        raise CommandError(f"{path} names {lost[0]}, which is not among the pictures")
    return replace(video, objects=[{k: v for k, v in one.items() if k != "id"} for one in objects], categories=names)


def _sfu_objects(path: Path, frame: int, size: Size) -> Iterator[Entry]:
    """Lines of class, centre, width and height as shares of the picture; with an object's number after the class."""
    for line, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        values = [_number(f"{path}, line {line}", value) for value in text.split()]
        if not values:
            continue
        if len(values) not in (5, 6):
            raise CommandError(f"{path}, line {line}: {len(values)} columns, not class, (object,) x, y, width, height")
        label, track, (x, y, width, height) = int(values[0]), int(values[1]) if len(values) == 6 else None, values[-4:]
        if not (0 <= label < len(COCO80) and max(map(abs, values[-4:])) <= 2):
            raise CommandError(f"{path}, line {line}: not one of 80 classes, or a box beyond the picture")
        corner = (x - width / 2) * size[0], (y - height / 2) * size[1], width * size[0], height * size[1]
        if (box := _clipped(corner, size)) is not None:
            yield _object(frame, COCO80[label], box, track)


COCO80 = [id for id in range(1, 91) if id not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}]
"""COCO's ids of the 80 classes that Darknet counts from 0."""


# Pictures in order, and a video's frames.


def _in_order(pattern: Path, size_of: SizeOf) -> _Video:
    match = _PATTERN.search(pattern.name)
    if match is None or len(_PATTERN.findall(pattern.name)) > 1:
        raise CommandError(f"{pattern} needs one number, such as %06d")
    before, after = pattern.name[: match.start()], pattern.name[match.end() :]
    width = int(match[2] or 0)
    form = re.compile(re.escape(before) + (rf"(\d{{{width},}})" if match[1] else r"(\d+)") + re.escape(after))
    if not pattern.parent.is_dir():
        raise CommandError(f"there is no folder {pattern.parent}")
    found = {int(m[1]): path for path in pattern.parent.iterdir() if (m := form.fullmatch(path.name))}
    if not found:
        raise CommandError(f"there are no pictures {pattern}")
    frames = dict(sorted(found.items()))
    name = pattern.parent.resolve().name
    return _Video(name, frames, size_of(next(iter(frames.values()))), None, None)


def _rate(path: Path) -> float | None:
    from featlink.sources import about

    return about(path).fps


def _unpacked(path: Path) -> Path:
    """A video's frames as PNGs in the user's cache, unpacked once, with a progress bar.

    Those of videos that nobody has opened for a month are deleted then.
    """
    import cv2
    import xxhash
    from rich.console import Console
    from rich.progress import Progress

    from featlink.sources import about, frames

    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)

    def write(folder: Path) -> None:
        _forget(videos)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"unpacking {path.name}", total=about(path).frames or None)
            for number, taken in enumerate(frames(path, paced=False)):
                encoded, data = cv2.imencode(".png", taken.pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
                if not encoded:
                    raise OSError("a frame cannot be encoded")
                (folder / f"{number:06d}.png").write_bytes(data.tobytes())
                progress.advance(task)

    videos = files.cache() / "videos"
    found = files.written_once(videos / digest.hexdigest(), write)
    with suppress(OSError):  # a cache that is only read
        os.utime(found)
    return found


def _forget(videos: Path) -> None:
    """Delete what was last opened, which sets its time, before :data:`_KEPT_DAYS` days."""
    for folder in videos.iterdir():
        with suppress(OSError):
            old = time.time() - folder.stat().st_mtime > _KEPT_DAYS * 86400
            if old and folder.is_dir() and not folder.name.startswith("."):
                shutil.rmtree(folder)


# What rows have in common.


def _object(frame: int, category: int, box: Sequence[float], track: int | None, crowd: bool = False) -> Entry:
    entry = {"frame": frame, "category_id": category, "bbox": list(box), "area": box[2] * box[3], "iscrowd": int(crowd)}
    return entry if track is None or track < 0 else {**entry, "instance_id": track}


def _clipped(box: tuple[float, float, float, float], size: Size) -> tuple[float, float, float, float] | None:
    """What of a box lies in the picture, as detectors give no more; None if nothing does."""
    x, y = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], float(size[0])), min(box[1] + box[3], float(size[1]))
    return (x, y, right - x, bottom - y) if right > x and bottom > y else None


def _number(where: object, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CommandError(f"{where}: {text.strip()!r} is no number")
    return value


def _integer(where: object, text: str) -> int:
    value = _number(where, text)
    if not value.is_integer():
        raise CommandError(f"{where}: {text!r} is no whole number")
    return int(value)
