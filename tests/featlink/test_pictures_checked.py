"""What is wrong with a data set's pictures is known before a network sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from featlink.dataset import check_pictures, turned_notice
from featlink.errors import CommandError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import GroundTruth


def truth(width: int, height: int, images: int = 1) -> GroundTruth:
    entries = [{"id": i, "width": width, "height": height} for i in range(1, images + 1)]
    return coco.parse({"images": entries, "categories": [], "annotations": []})


def picture(path: Path, orientation: int = 1, size: tuple[int, int] = (8, 6)) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", size).save(path, exif=exif)
    return path


@pytest.mark.parametrize(("orientation", "annotated"), [(1, (8, 6)), (3, (8, 6)), (2, (8, 6)), (6, (6, 8))])
def test_pictures_are_as_large_as_annotated_once_turned(
    tmp_path: Path, orientation: int, annotated: tuple[int, int]
) -> None:
    images = {1: picture(tmp_path / "a.jpg", orientation)}
    found = check_pictures(images, truth(*annotated))
    assert (found.faults, list(found.digests)) == ({}, [1])
    assert found.turned == ([images[1]] if orientation in (2, 3) else [])


def test_annotations_of_pictures_as_stored_are_noticed(tmp_path: Path) -> None:
    images = {1: picture(tmp_path / "a.jpg"), 2: picture(tmp_path / "b.jpg", 6), 3: picture(tmp_path / "c.jpg", 3)}
    with pytest.raises(CommandError, match=r"1 picture is annotated as stored, but EXIF says to turn it, .*b.jpg"):
        check_pictures(images, truth(8, 6, 3))
    mirrored = {1: images[1], 3: images[3]}
    found = check_pictures(mirrored, truth(8, 6, 3))
    assert "1 picture is turned by EXIF, the first is c.jpg" in turned_notice(found.turned)


def test_each_fault_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    deep, odd = tmp_path / "deep.png", tmp_path / "odd.jpg"
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(deep)
    odd.write_bytes(b"no picture")
    images = {1: picture(tmp_path / "a.jpg"), 2: tmp_path / "none.jpg", 3: odd, 4: deep}
    images[5] = picture(tmp_path / "small.jpg", size=(4, 3))
    found = check_pictures(images, truth(8, 6, 5))
    assert list(found.digests) == [1, 5]
    assert found.faults == {
        2: "cannot be read: No such file or directory",
        3: "not a JPEG, PNG, WEBP, BMP image",
        4: "images of mode I;16 are not supported: send 8 bits per channel",
        5: "has 4×3 pixels, its annotations are for 8×6",
    }


def test_without_one_good_picture_there_is_nothing_to_begin(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"none of the pictures can be evaluated, the first is .*none.jpg: cannot"):
        check_pictures({1: tmp_path / "none.jpg"}, truth(8, 6))
