"""Data set folders in COCO's layout are found, others refused in one line."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from featlink.dataset import ground_truth, missing, open_dataset
from featlink.errors import CommandError
from featlink.shared.errors import DatasetError
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
    with pytest.raises(CommandError, match="no folder, nor a"):
        open_dataset(lay_out(tmp_path / "zipped", "val.zip", "val/a.jpg", "a.jpg"))
    comma = folder(tmp_path / "comma", [])
    (comma / "annotations" / "instances_val.json").write_text('{"images": [],}')
    with pytest.raises(CommandError, match=r"is not JSON: .*trailing comma"):
        open_dataset(comma)


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


LAYOUTS = {
    "cvat": ("annotations/instances_default.json", "images/a.jpg", "a.jpg"),
    "cvat subset": ("annotations/instances_default.json", "images/default/a.jpg", "a.jpg"),
    "label studio": ("result.json", "images/a.jpg", "images/a.jpg"),
    "label studio on windows": ("result.json", "images/a.jpg", "images\\a.jpg"),
    "roboflow": ("train/_annotations.coco.json", "train/a.jpg", "a.jpg"),
    "fiftyone": ("labels.json", "data/a.jpg", "a.jpg"),
    "labelme": ("annotations.json", "JPEGImages/a.jpg", "JPEGImages/a.jpg"),
    "ultralytics": ("annotations/instances_val2017.json", "images/val2017/a.jpg", "a.jpg"),
    "another machine's path": ("annotations/instances_val.json", "val/a.jpg", "/home/else/set/a.jpg"),
    "an address": ("annotations/instances_val.json", "val/a.jpg", "http://images.example.org/a.jpg"),
    "a signed address": ("annotations/instances_val.json", "val/a.jpg", "https://images.example.org/a.jpg?sig=b/c&x=1"),
    "another case": ("annotations/instances_val.json", "val/a.jpg", "A.JPG"),
    "%20": ("annotations/instances_val.json", "val/my a.jpg", "my%20a.jpg"),
    "+": ("annotations/instances_val.json", "val/my a.jpg", "my+a.jpg"),
    "%2B": ("annotations/instances_val.json", "val/a+b.jpg", "a%2Bb.jpg"),
    "spaces around": ("annotations/instances_val.json", "val/a.jpg", " a.jpg "),
    "folders in another case": ("annotations/instances_val.json", "Images/Val/a.jpg", "a.jpg"),
    "another case of .json": ("annotations/instances_val.JSON", "val/a.jpg", "a.jpg"),
    "keypoints": ("annotations/person_keypoints_val.json", "val/a.jpg", "a.jpg"),
    "another Unicode form": (
        "annotations/instances_val.json",
        f"val/{unicodedata.normalize('NFD', 'Übung é.jpg')}",
        unicodedata.normalize("NFC", "Übung é.jpg"),
    ),
}


def lay_out(root: Path, file: str, picture: str, name: str) -> Path:
    """A data set of one picture; the annotation file."""
    for path in (root / file, root / picture):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(root / picture)
    images = [{"id": 4, "file_name": name, "width": 8, "height": 6}]
    (root / file).write_text(json.dumps({"images": images, "categories": [], "annotations": []}), encoding="utf-8")
    return root / file


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_are_found_where_tools_put_them(tmp_path: Path, layout: str) -> None:
    file = lay_out(tmp_path / "mine", *LAYOUTS[layout])
    picture = tmp_path / "mine" / LAYOUTS[layout][1]
    for path in (file, tmp_path / "mine"):
        data = open_dataset(path)
        assert data.images[4].samefile(picture)
        assert open_dataset(data.source).images[4].samefile(picture)


def test_pictures_in_a_folder_that_is_given(tmp_path: Path) -> None:
    file = lay_out(tmp_path / "mine", "labels/mine.json", "a.jpg", "split/a.jpg")
    (tmp_path / "mine" / "a.jpg").rename(tmp_path / "a.jpg")
    assert missing(open_dataset(file))
    assert open_dataset(file, pictures=tmp_path).images[4].samefile(tmp_path / "a.jpg")
    with pytest.raises(CommandError, match="no folder of pictures"):
        open_dataset(file, pictures=tmp_path / "none")


def test_a_name_that_could_be_two_pictures_is_not_guessed(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", [{"id": i, "file_name": name} for i, name in {1: "x/b.jpg", 2: "y/b.jpg"}.items()])
    (root / "val" / "b.jpg").touch()
    assert len(missing(open_dataset(root))) == 2
    alike = folder(tmp_path / "alike", [{"id": 1, "file_name": "C.JPG"}])
    for name in ("c.jpg", "c.JPG"):
        (alike / "val" / name).touch()
    assert missing(open_dataset(alike))


def test_text_ids_are_the_same_for_pictures_and_annotations(tmp_path: Path) -> None:
    root = folder(tmp_path / "mine", [{"id": "cam-a", "file_name": "a.jpg", "width": 8, "height": 6}])
    file = root / "annotations" / "instances_val.json"
    box = {"id": 1, "image_id": "cam-a", "category_id": 1, "bbox": [1, 1, 2, 2], "area": 4, "iscrowd": 0}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"categories": [{"id": 1}], "annotations": [box]}))
    data = open_dataset(root)
    [annotation] = ground_truth(data)[0].annotations
    assert data.images == {annotation.image_id: root / "val/a.jpg"}


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = lay_out(tmp_path / "mine", *LAYOUTS["cvat"])
    file.write_text(file.read_text().replace('"annotations"', '"captions"'))
    with pytest.raises(DatasetError, match=r"instances_default\.json: "):
        ground_truth(open_dataset(file))
    assert ground_truth(open_dataset(file), "clean")[0].images[0].width == 8


def test_sizes_that_the_file_lacks_are_the_pictures(tmp_path: Path) -> None:
    lay_out(tmp_path, *LAYOUTS["cvat"])
    file = tmp_path / "annotations" / "instances_default.json"
    file.write_text(file.read_text().replace('"width": 8, "height": 6', '"width": null, "height": null'))
    truth, repairs = ground_truth(open_dataset(tmp_path))
    assert [(image.width, image.height) for image in truth.images] == [(8, 6)]
    assert repairs == "size of an image, which is its picture's (1)"
    file.write_text(file.read_text().replace(', "annotations": []', ""))  # as COCO's image_info files
    assert ground_truth(open_dataset(tmp_path), "clean")[0] == truth
    with pytest.raises(DatasetError, match="annotations"):
        ground_truth(open_dataset(tmp_path))


def test_what_is_left_out_of_a_folder_of_pictures_is_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.JPEG", "c.jfif", "t.tif", "g.gif", "IMG_1.HEIC", "sub/d.jpg", "notes/x.txt"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    data = open_dataset(tmp_path / "photos", "clean")
    assert [path.name for path in data.images.values()] == ["a.jpg", "b.JPEG", "c.jfif"]
    assert data.notice == (
        "left out of photos: 3 of another format and 1 folder of pictures: IMG_1.HEIC, g.gif, t.tif, sub/"
    )
