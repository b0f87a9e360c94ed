"""Write scenes as a COCO folder, and clips as a CocoVID folder.

Both are ``annotations/instances_<part>.json`` beside ``<part>/``, and written picture by picture.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from featlink.starter.clips import LARGEST_FRAMES, MOTIONS, ClipConfig, Motion, clip
from featlink.starter.scenes import SMALLEST, Scene, SceneConfig, scene
from featlink.starter.sprites import Part
from featlink.starter.styles import CATEGORIES

SIZES = ((640, 480), (480, 640), (640, 427), (427, 640), (500, 375), (375, 500), (640, 360), (480, 480))
"""(width, height) of pictures, as photos in COCO have them."""

LARGEST_SEED = 999
LARGEST_COUNT = 10**6

_JPEG_QUALITY = 85
_FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]  # noise takes time to compress, and gains little
Entry = dict[str, Any]
_NAMES = {
    1: "person", 3: "car", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat", 10: "traffic light",
    13: "stop sign", 17: "cat", 18: "dog", 22: "elephant", 23: "bear", 28: "umbrella", 37: "sports ball", 52: "banana",
    53: "apple", 59: "pizza", 60: "donut", 61: "cake", 72: "tv", 84: "book", 85: "clock",
}  # fmt: skip


def write_folder(
    folder: Path, count: int, seed: int = 0, part: Part = "val", png_every: int = 10, workers: int = 1, marks: int = 0
) -> Iterator[int]:
    """Write scenes; memory does not grow with their number.

    Args:
        folder: is created; what is in it is overwritten.
        count: scenes, up to 10⁶.
        seed: 0..999; the same gives the same scenes.
        part: of the drawings. The bundled detector knows those of ``train``.
        png_every: every so many-th picture is a PNG, the others are JPEGs.
        workers: processes.
        marks: written marks in each scene, which the images' entries list under ``marks``, a key that they lack
            without.

    Yields:
        How many are written, after each.

    Raises:
        ValueError: count or seed is out of range.
    """
    _check(seed, count)
    make = functools.partial(_write_picture, _begun(folder, part), seed, part, png_every, marks)
    yield from _annotated(folder, part, _mapped(make, count, workers, chunk=4), _info("scenes", seed, part))


def write_clips(
    folder: Path,
    count: int,
    frames: int,
    seed: int = 0,
    part: Part = "val",
    motions: Sequence[Motion] = MOTIONS,
    fps: int = 15,
    workers: int = 1,
) -> Iterator[int]:
    """Write clips, each frame a PNG; memory does not grow with their number.

    Args:
        folder: is created; what is in it is overwritten.
        count: clips, up to 10⁶.
        frames: of each, up to 10⁵.
        seed: 0..999; the same gives the same clips.
        part: of the drawings. The bundled detector knows those of ``train``.
        motions: of the clips in turn.
        fps: frames a second, which the file tells.
        workers: processes.

    Yields:
        How many are written, after each.

    Raises:
        ValueError: count, frames or seed is out of range.
    """
    _check(seed, count)
    if not 1 <= frames <= LARGEST_FRAMES:
        raise ValueError(f"the number of frames must be in 1..{LARGEST_FRAMES}")
    make = functools.partial(_write_clip, _begun(folder, part), seed, part, tuple(motions), frames)
    videos = [
        {"id": number + 1, "name": _clip_name(motions, number), "fps": fps, "width": 640, "height": 480}
        for number in range(count)
    ]
    about = {**_info("clips", seed, part), "videos": videos}
    yield from _annotated(folder, part, _mapped(make, count, workers, chunk=1), about)


def _check(seed: int, count: int) -> None:
    if not (0 <= seed <= LARGEST_SEED and 1 <= count <= LARGEST_COUNT):
        raise ValueError(f"seed must be in 0..{LARGEST_SEED} and the number in 1..{LARGEST_COUNT}")


def _begun(folder: Path, part: Part) -> Path:
    """Make the folders; returns that of the pictures."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / part).mkdir(exist_ok=True)
    return folder / part


def _annotated(
    folder: Path, part: Part, made: Iterable[tuple[list[Entry], list[Entry]]], about: Mapping[str, Any]
) -> Iterator[int]:
    """Write the annotations as pictures and their objects come; yields how many came, after each."""
    # The file is written as it grows: images go to it, annotations to a second one that is appended at the end.
    path = folder / "annotations" / f"instances_{part}.json"
    rest = path.with_suffix(".part")
    with path.open("w") as file, rest.open("w+") as pending:
        file.write("{" + "".join(f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in about.items()))
        file.write('"categories": ')
        file.write(json.dumps([{"id": category, "name": _NAMES[category]} for category in CATEGORIES]))
        file.write(',\n"images": [')
        number = written = 0
        for done, (images, things) in enumerate(made, 1):
            for image in images:
                file.write((",\n" if written else "") + json.dumps(image))
                written += 1
            for thing in things:
                number += 1
                pending.write(("" if number == 1 else ",\n") + json.dumps({"id": number, **thing}))
            yield done
        file.write('],\n"annotations": [')
        pending.seek(0)
        for line in pending:
            file.write(line)
        file.write("]}\n")
    rest.unlink()


def _info(what: str, seed: int, part: Part) -> dict[str, Any]:
    return {"info": {"description": f"Featlink's synthetic {what}", "seed": seed, "part": part}}


def _mapped(make: Any, count: int, workers: int, chunk: int) -> Iterator[Any]:
    if workers == 1:
        yield from map(make, range(count))
        return
    with ProcessPoolExecutor(workers) as pool:
        block = 64 * workers  # so that neither tasks nor results pile up
        for start in range(0, count, block):
            yield from pool.map(make, range(start, min(start + block, count)), chunksize=chunk)


def _write_picture(
    folder: Path, seed: int, part: Part, png_every: int, marks: int, index: int
) -> tuple[list[Entry], list[Entry]]:
    made = picture_scene(seed, part, index, marks)
    suffix = "png" if index % png_every == png_every - 1 else "jpg"
    name = f"{index + 1:012d}.{suffix}"
    pixels = np.ascontiguousarray(made.image[..., ::-1])
    encoded, data = cv2.imencode(
        f".{suffix}", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == "jpg" else []
    )
    if not encoded:
        raise OSError(f"cannot encode {name}")
    (folder / name).write_bytes(data.tobytes())
    height, width = made.owner.shape
    image: Entry = {"id": index + 1, "file_name": name, "width": width, "height": height}
    if marks:
        image["marks"] = [asdict(mark) for mark in made.marks]
    return [image], ground_truth(made, index + 1)


def _write_clip(
    folder: Path, seed: int, part: Part, motions: tuple[Motion, ...], frames: int, index: int
) -> tuple[list[Entry], list[Entry]]:
    name = _clip_name(motions, index)
    (folder / name).mkdir(exist_ok=True)
    images, things = list[Entry](), list[Entry]()
    config = ClipConfig(motions[index % len(motions)], frames, part)
    for number, frame in enumerate(clip(seed * LARGEST_COUNT + index, config)):
        image_id = index * frames + number + 1
        file = f"{name}/{number:06d}.png"
        encoded, data = cv2.imencode(".png", np.ascontiguousarray(frame.scene.image[..., ::-1]), _FAST_PNG)
        if not encoded:
            raise OSError(f"cannot encode {file}")
        (folder / file).write_bytes(data.tobytes())
        height, width = frame.scene.owner.shape
        images.append({"id": image_id, "file_name": file, "width": width, "height": height})
        images[-1] |= {"video_id": index + 1, "frame_id": number}
        things += [
            {**thing, "instance_id": instance}
            for thing, instance in zip(ground_truth(frame.scene, image_id), frame.instances, strict=True)
            if thing["area"] >= SMALLEST
        ]
    return images, things


def _clip_name(motions: Sequence[Motion], index: int) -> str:
    return f"{motions[index % len(motions)]}-{index + 1:02d}"


def picture_scene(seed: int, part: Part, index: int, marks: int = 0) -> Scene:
    """The scene that :func:`write_folder` writes as picture ``index + 1``."""
    return scene(seed * LARGEST_COUNT + index, SceneConfig(part, SIZES, marks=marks))


def ground_truth(made: Scene, image_id: int) -> list[Entry]:
    """A scene's ground truth in COCO's format, without ids; masks are run-length encoded.

    ``style`` and ``artwork`` are fields of Featlink's own.
    """
    found = []
    for index, thing in enumerate(made.objects):
        code = rle.encode(np.asfortranarray(made.mask(index).view(np.uint8)))
        found.append(
            {
                "image_id": image_id,
                "category_id": thing.category_id,
                "iscrowd": int(thing.crowd),
                "area": float(rle.area(code)),
                "bbox": [float(value) for value in rle.toBbox(code)],
                "segmentation": {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()},
                "style": thing.style,
                "artwork": thing.artwork,
            }
        )
    return found
