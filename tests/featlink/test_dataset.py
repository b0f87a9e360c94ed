"""Data set folders in COCO's layout are found, others refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featlink.dataset import missing, open_dataset
from featlink.errors import CommandError
from featlink.starter.bundle import SCENES


def folder(path: Path, images: object) -> Path:
    (path / "annotations").mkdir(parents=True)
    (path / "annotations" / "instances_val.json").write_text(json.dumps({"images": images}))
    (path / "val").mkdir()
    (path / "val" / "a.jpg").touch()
    return path


def test_a_folder_is_found(tmp_path: Path) -> None:
    data = open_dataset(folder(tmp_path / "mine", [{"id": 4, "file_name": "a.jpg"}]))
    assert (data.name, data.images) == ("mine", {4: tmp_path / "mine/val/a.jpg"})


def test_starter_is_the_bundle_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "starter", [])
    monkeypatch.chdir(tmp_path)
    assert open_dataset(Path("starter")).annotations.parent.parent == SCENES
    assert open_dataset(tmp_path / "starter").images == {}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([{"file_name": "a.jpg"}], "is not a COCO instances file"),
        (None, "is not a COCO instances file"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, images: object, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        open_dataset(folder(tmp_path / "mine", images))
    with pytest.raises(CommandError, match="beside a folder X of pictures"):
        open_dataset(tmp_path)
    with pytest.raises(CommandError, match="cannot read"):
        open_dataset(tmp_path / "annotations/instances_val.json")


def test_of_several_splits_the_one_with_pictures_is_taken_or_one_is_named(tmp_path: Path) -> None:
    whole = folder(tmp_path / "coco", [{"id": 4, "file_name": "a.jpg"}])
    other = whole / "annotations" / "instances_train.json"
    other.write_text(json.dumps({"images": []}))
    assert open_dataset(whole).images == {4: whole / "val/a.jpg"}
    (whole / "train").mkdir()
    with pytest.raises(CommandError, match="several splits; give the file of one, such as "):
        open_dataset(whole)
    assert open_dataset(other).images == {}
    assert open_dataset(whole / "annotations" / "instances_val.json").name == "coco"


def test_pictures_need_not_be_there_and_are_found_under_odd_names(tmp_path: Path) -> None:
    names = {1: "a.jpg", 2: "b.jpg", 3: "val/a.jpg", 4: ".\\a.jpg", 5: "val\\a.jpg"}
    data = open_dataset(folder(tmp_path / "mine", [{"id": i, "file_name": name} for i, name in names.items()]))
    there = tmp_path / "mine" / "val" / "a.jpg"
    assert missing(data) == [tmp_path / "mine" / "val" / "b.jpg"]
    assert all(data.images[i].samefile(there) for i in (1, 3, 4, 5))
