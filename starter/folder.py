"""Write scenes as a COCO folder: ``annotations/instances_<part>.json`` beside ``<part>/``, picture by picture."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from featlink.starter.scenes import Scene, SceneConfig, scene
from featlink.starter.sprites import Part
from featlink.starter.styles import CATEGORIES

SIZES = ((640, 480), (480, 640), (640, 427), (427, 640), (500, 375), (375, 500), (640, 360), (480, 480))
"""(width, height) of pictures, as photos in COCO have them."""

LARGEST_SEED = 999
LARGEST_COUNT = 10**6

_JPEG_QUALITY = 85
_NAMES = {
    1: "person", 3: "car", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat", 10: "traffic light",
    13: "stop sign", 17: "cat", 18: "dog", 22: "elephant", 23: "bear", 28: "umbrella", 37: "sports ball", 52: "banana",
    53: "apple", 59: "pizza", 60: "donut", 61: "cake", 72: "tv", 84: "book", 85: "clock",
}  # fmt: skip


def write_folder(
    folder: Path, count: int, seed: int = 0, part: Part = "val", png_every: int = 10, workers: int = 1
) -> Iterator[int]:
    """Write scenes; memory does not grow with their number.

    Args:
        folder: is created; what is in it is overwritten.
        count: scenes, up to 10⁶.
        seed: 0..999; the same gives the same scenes.
        part: of the drawings. The bundled detector knows those of ``train``.
        png_every: every so many-th picture is a PNG, the others are JPEGs.
        workers: processes.

    Yields:
        How many are written, after each.

    Raises:
        ValueError: count or seed is out of range.
    """
    if not (0 <= seed <= LARGEST_SEED and 1 <= count <= LARGEST_COUNT):
        raise ValueError(f"seed must be in 0..{LARGEST_SEED} and the number of scenes in 1..{LARGEST_COUNT}")
    pictures = folder / part
    pictures.mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    make = functools.partial(_write_picture, pictures, seed, part, png_every)
    # The file is written as it grows: images go to it, annotations to a second one that is appended at the end.
    path = folder / "annotations" / f"instances_{part}.json"
    rest = path.with_suffix(".part")
    with path.open("w") as file, rest.open("w+") as pending:
        file.write('{"info": ' + json.dumps(_info(seed, part)) + ',\n"categories": ')
        file.write(json.dumps([{"id": category, "name": _NAMES[category]} for category in CATEGORIES]))
        file.write(',\n"images": [')
        number = 0
        for done, (image, things) in enumerate(_mapped(make, count, workers), 1):
            file.write(("" if done == 1 else ",\n") + json.dumps(image))
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


def _info(seed: int, part: Part) -> dict[str, Any]:
    return {"description": "Featlink's synthetic scenes", "seed": seed, "part": part}


def _mapped(make: Any, count: int, workers: int) -> Iterator[Any]:
    if workers == 1:
        yield from map(make, range(count))
        return
    with ProcessPoolExecutor(workers) as pool:
        block = 64 * workers  # so that neither tasks nor results pile up
        for start in range(0, count, block):
            yield from pool.map(make, range(start, min(start + block, count)), chunksize=4)


def _write_picture(
    folder: Path, seed: int, part: Part, png_every: int, index: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    made = picture_scene(seed, part, index)
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
    image = {"id": index + 1, "file_name": name, "width": width, "height": height}
    return image, ground_truth(made, index + 1)


def picture_scene(seed: int, part: Part, index: int) -> Scene:
    """The scene that :func:`write_folder` writes as picture ``index + 1``."""
    return scene(seed * LARGEST_COUNT + index, SceneConfig(part, SIZES))


def ground_truth(made: Scene, image_id: int) -> list[dict[str, Any]]:
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
