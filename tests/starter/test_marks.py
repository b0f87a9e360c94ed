"""Written marks: beside the objects, the same everywhere, in a key of their own; without, pictures are as they were."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from featlink.attacking.reading import marks_of, read_marks
from featlink.cli import app
from featlink.dataset import ground_truth, open_dataset
from featlink.shared.errors import DatasetError
from featlink.shared.evaluation.coco import digest, dump
from featlink.starter.folder import picture_scene, write_folder
from featlink.starter.marks import KINDS, alphabet, glyph


def test_marks_change_their_places_alone() -> None:
    plain, marked = picture_scene(3, "val", 4), picture_scene(3, "val", 4, marks=6)
    assert [mark.kind for mark in marked.marks] == [*KINDS, *KINDS]
    assert np.array_equal(plain.owner, marked.owner)
    places = np.zeros(plain.owner.shape, bool)
    for mark in marked.marks:
        x, y, width, height = mark.bbox
        assert not plain.owner[y : y + height, x : x + width].any()
        places[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1] = True  # the camera's blur
    differs = (plain.image != marked.image).any(axis=2)
    assert differs[places].mean() > 0.8
    assert not differs[~places].any()


def test_glyphs_of_a_kind_differ() -> None:
    for kind in KINDS:
        drawn = {glyph(kind, character).tobytes() for character in alphabet(kind)}
        assert len(drawn) == len(alphabet(kind))


def test_what_is_written_is_read() -> None:
    for index in range(4):
        made = picture_scene(5, "val", index, marks=6)
        picture = made.image.transpose(2, 0, 1).astype(np.float32)
        read, count = read_marks(picture, made.owner.shape, made.marks)
        assert read == count >= 6
        small = cv2.resize(
            made.image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA
        )  # as a network's input may be
        read, count = read_marks(small.transpose(2, 0, 1).astype(np.float32), made.owner.shape, made.marks)
        assert read >= 0.8 * count
        assert read_marks(np.full_like(picture, 90), made.owner.shape, made.marks) == (0, count)


def test_of_noise_as_much_is_read_as_by_guessing() -> None:
    read = total = 0
    for index in range(20):
        made = picture_scene(6, "val", index, marks=6)
        noise = np.random.default_rng(index).random((3, *made.owner.shape), np.float32)
        found, count = read_marks(noise, made.owner.shape, made.marks)
        read, total = read + found, total + count
    assert read < 0.2 * total


def test_the_truth_does_not_depend_on_marks(tmp_path: Path) -> None:
    for marks in (0, 3):
        assert list(write_folder(tmp_path / str(marks), 2, seed=7, marks=marks)) == [1, 2]
    plain, marked = (open_dataset(tmp_path / str(marks)) for marks in (0, 3))
    assert len({digest(dump(ground_truth(data)[0])) for data in (plain, marked)}) == 1
    assert "marks" not in json.loads((tmp_path / "0/annotations/instances_val.json").read_bytes())["images"][0]
    assert marks_of(plain) == {}
    assert marks_of(marked) == {1 + i: picture_scene(7, "val", i, 3).marks for i in range(2)}


@pytest.mark.parametrize("mark", [{"kind": "word"}, {"text": "x"}, {"text": ""}, {"bbox": [0, 0, 9, 1]}, {"bbox": 3}])
def test_marks_of_another_making_are_refused(tmp_path: Path, mark: dict[str, object]) -> None:
    list(write_folder(tmp_path, 1, seed=7, marks=1))
    path = tmp_path / "annotations/instances_val.json"
    content = json.loads(path.read_bytes())
    content["images"][0]["marks"][0] |= mark
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError):
        marks_of(open_dataset(tmp_path))


def test_the_command_writes_marks_into_scenes_alone(tmp_path: Path) -> None:
    arguments = ["scenes", "--out", str(tmp_path), "--marks", "3", "--workers", "1"]
    assert CliRunner().invoke(app, [*arguments, "--n", "1"]).exit_code == 0
    assert len(marks_of(open_dataset(tmp_path))[1]) == 3
    assert CliRunner().invoke(app, [*arguments, "--clips", "1"]).exit_code == 1
