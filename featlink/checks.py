"""What can be known of a data set's pictures before a network sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from featlink.dataset import MAX_PIXELS
from featlink.errors import CommandError
from featlink.shared.errors import ImageError
from featlink.shared.evaluation.coco import GroundTruth
from featlink.shared.pictures import read_header


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
        raise CommandError(
            f"none of the pictures can be evaluated, the first is {images[first]}: {found.faults[first]}"
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
