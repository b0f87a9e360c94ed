"""Folders of scenes are what COCO's own tools and the bench read."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from featlink.dataset import open_dataset
from featlink.starter.bundle import SCENES
from featlink.starter.folder import picture_scene, write_folder
from featlink.starter.styles import CATEGORIES


def test_a_written_folder_holds_the_scenes(tmp_path: Path) -> None:
    assert list(write_folder(tmp_path, 5, seed=7, png_every=2)) == [1, 2, 3, 4, 5]
    data = open_dataset(tmp_path)
    assert {path.suffix for path in data.images.values()} == {".jpg", ".png"}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(data.annotations)
    for index, (image_id, path) in enumerate(data.images.items()):
        made = picture_scene(7, "val", index)
        picture = cv2.imread(str(path))[..., ::-1]
        difference = np.abs(picture.astype(int) - made.image).mean()
        assert difference == 0 if path.suffix == ".png" else difference < 12
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        assert len(annotations) == len(made.objects)
        for number, (annotation, thing) in enumerate(zip(annotations, made.objects, strict=True)):
            mask = made.mask(number)
            assert np.array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            assert annotation["bbox"] == [
                columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
            ]  # fmt: skip
            assert annotation["category_id"] == thing.category_id
            assert annotation["iscrowd"] == thing.crowd


@pytest.mark.slow
def test_the_number_of_processes_does_not_matter(tmp_path: Path) -> None:
    for workers in (1, 2):
        list(write_folder(tmp_path / str(workers), 6, seed=3, part="train", workers=workers))
    one, two = (sorted(path for path in (tmp_path / str(n)).rglob("*") if path.is_file()) for n in (1, 2))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert len(one) == 7


def test_other_seeds_give_other_scenes(tmp_path: Path) -> None:
    for seed in (1, 2):
        list(write_folder(tmp_path / str(seed), 2, seed))
    assert (tmp_path / "1/val/000000000001.jpg").read_bytes() != (tmp_path / "2/val/000000000001.jpg").read_bytes()


@pytest.mark.parametrize(("count", "seed"), [(0, 1), (10**6 + 1, 1), (1, -1), (1, 1000)])
def test_seeds_that_training_uses_are_refused(tmp_path: Path, count: int, seed: int) -> None:
    with pytest.raises(ValueError, match=r"seed must be in 0\.\.999"):
        list(write_folder(tmp_path, count, seed))


def test_the_bundled_scenes_are_those_of_the_generator() -> None:
    data = open_dataset(Path("starter"))
    assert data.name == "starter"
    assert data.annotations.is_relative_to(SCENES)
    assert len(data.images) == 64
    told = json.loads(data.annotations.read_bytes())
    assert {category["id"] for category in told["categories"]} == set(CATEGORIES)
    assert {annotation["category_id"] for annotation in told["annotations"]} == set(CATEGORIES)
    assert sum(annotation["iscrowd"] for annotation in told["annotations"]) >= 3
    assert {path.suffix for path in data.images.values()} == {".jpg", ".png"}
    first = told["annotations"][0]
    assert first["artwork"] == picture_scene(0, "val", 0).objects[0].artwork
    png = next(path for path in data.images.values() if path.suffix == ".png")
    assert np.array_equal(cv2.imread(str(png))[..., ::-1], picture_scene(0, "val", int(png.stem) - 1).image)
