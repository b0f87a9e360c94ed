"""Data set folders in COCO's layout are found, others refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.dataset import open_dataset
from bench.errors import BenchError
from starter.bundle import SCENES


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
        ([{"id": 4, "file_name": "b.jpg"}], "1 pictures are missing, the first is .*b.jpg"),
        ([{"file_name": "a.jpg"}], "is not a COCO instances file"),
        (None, "is not a COCO instances file"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, images: object, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        open_dataset(folder(tmp_path / "mine", images))
    with pytest.raises(BenchError, match="0 files match"):
        open_dataset(tmp_path)
