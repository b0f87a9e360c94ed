"""MOTChallenge, SFU-HW, pictures in order and video files, made by hand: right, or refused in one line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from featlink.dataset import ground_truth, open_dataset
from featlink.errors import CommandError
from featlink.shared.errors import DatasetError, FeatlinkError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import Annotation, Clip, GroundTruth

WIDTH, HEIGHT = 64, 48


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return path


INFO = "[Sequence]\nname=street\nimDir=img1\nframeRate=30\nseqLength=4\nimWidth=64\nimHeight=48\nimExt=.jpg\n"
ROWS = [
    "2,1,11,21,10,20,1,1,0.9",
    "1,1,9,19,10,20,1,1,1",
    "1,2,-5,41,20,20,1,1,0.5",  # reaches out of the picture
    "1,3,1,1,8,8,0,3,1",  # a car that is not to be counted
    "2,4,1,1,8,8,1,8,1",  # a distractor
    "3,5,1,1,8,8,1,1,0",  # a person whom nobody sees
    "3,6,1,1,8,8,1,11,1",  # an occluder is no object
    "3,7,200,1,8,8,1,1,1",  # beside the picture
    "",
]


def mot(folder: Path, rows: list[str] | None = None, numbers: tuple[int, ...] = (1, 2, 3, 4), info: str = INFO) -> Path:
    (folder / "img1").mkdir(parents=True)
    for number in numbers:
        picture(folder / "img1" / f"{number:06d}.jpg")
    if info:
        (folder / "seqinfo.ini").write_text(info)
    if rows is None or rows:
        (folder / "gt").mkdir()
        (folder / "gt" / "gt.txt").write_text("\r\n".join(ROWS if rows is None else rows))
    return folder


def read(path: Path, truth: Any = "annotations") -> tuple[GroundTruth, list[Clip]]:
    found, repairs = ground_truth(open_dataset(path, truth), truth)
    assert repairs == ""
    return found, coco.clips(found)


def objects(truth: GroundTruth) -> dict[tuple[int, int | None], Annotation]:
    """By frame number and instance."""
    frames = {image.id: image.frame_id for image in truth.images}
    return {(frames[one.image_id] or 0, one.instance_id): one for one in truth.annotations}


def test_a_mot_folder(tmp_path: Path) -> None:
    truth, [clip] = read(mot(tmp_path / "MOT17-02"))
    assert clip.video == coco.Video(1, "street", 30)
    assert [(image.frame_id, image.width, image.height) for image in clip.images] == [(n, 64, 48) for n in range(1, 5)]
    found = objects(truth)
    assert {key: one.iscrowd for key, one in found.items()} == {
        (1, 1): 0,
        (2, 1): 0,
        (1, 2): 0,
        (1, 3): 1,
        (2, 4): 1,
        (3, 5): 1,
    }
    assert found[1, 1].bbox == (8, 18, 10, 20), "MOTChallenge counts pixels from 1"
    assert found[1, 2].bbox == (0, 40, 14, 8), "what lies in the picture"
    assert {category.id: category.name for category in truth.categories} == {1: "person", 3: "car"}
    data = open_dataset(tmp_path / "MOT17-02")
    assert [path.name for path in data.images.values()] == [f"{number:06d}.jpg" for number in range(1, 5)]
    assert open_dataset(data.source).images == data.images
    assert data.categories() == {"1": "person", "3": "car"}


def test_mot_of_2015_has_people_alone(tmp_path: Path) -> None:
    truth, _ = read(mot(tmp_path / "a", ["1,1,9,19,10,20,1,-1,-1,-1", "1,2,9,9,5,5,1,3.5,2.25,0"]))
    assert [(one.category_id, one.iscrowd) for one in truth.annotations] == [(1, 0), (1, 0)]


def test_frames_count_as_their_files_do(tmp_path: Path) -> None:
    first, _ = read(mot(tmp_path / "zero", ["0,1,9,19,10,20,1,1,1"], (0, 1, 2)))
    assert objects(first).keys() == {(0, 1)}
    data = open_dataset(mot(tmp_path / "gap", None, (1, 2, 3, 7), info=""))
    assert "gap" in data.notice
    assert [image.frame_id for image in coco.clips(ground_truth(data)[0])[0].images] == [1, 2, 3, 7]
    shuffled = mot(tmp_path / "order", ["10,1,1,1,5,5,1,1,1", "9,1,1,1,6,6,1,1,1"], ())
    for number in (9, 10, 8):
        picture(shuffled / "img1" / f"{number}.png")
    truth, [clip] = read(shuffled)
    assert [image.frame_id for image in clip.images] == [8, 9, 10]
    assert objects(truth)[9, 1].bbox[2] == 6


def test_a_folder_of_sequences(tmp_path: Path) -> None:
    for name in ("MOT17-04-DPM", "MOT17-04-FRCNN", "MOT17-02-DPM"):
        mot(tmp_path / "train" / name, info=INFO.replace("street", name))
    data = open_dataset(tmp_path / "train")
    truth, clips = read(tmp_path / "train")
    assert [clip.name for clip in clips] == ["MOT17-02-DPM", "MOT17-04-DPM"]
    assert "MOT17-04-FRCNN" in data.notice
    assert len(data.images) == len(truth.images) == 8


WRONG_MOT = {
    "none of frame 5": {"rows": ["5,1,1,1,5,5,1,1,1"]},
    "none of frame 0": {"rows": ["0,1,1,1,5,5,1,1,1"]},
    "cannot be told": {"rows": ["1,1,1,1,5,5,1,1,1"], "numbers": (0, 1, 2)},
    "line 2: 'x' is no number": {"rows": ["1,1,1,1,5,5", "1,2,x,1,5,5"]},
    "line 1: 3 columns": {"rows": ["1,1,1"]},
    "class 14": {"rows": ["1,1,1,1,5,5,1,14,1"]},
    "object 1 twice in frame 1": {"rows": ["1,1,1,1,5,5,1,1,1", "1,1,1,1,6,6,1,1,1"]},
    "says 3 frames, there are 4": {"info": INFO.replace("seqLength=4", "seqLength=3")},
    "has no pictures": {"numbers": ()},
    "seqinfo.ini: ": {"info": "frameRate=30"},
}


@pytest.mark.parametrize("message", WRONG_MOT)
def test_a_wrong_mot_folder_is_refused(tmp_path: Path, message: str) -> None:
    folder = mot(tmp_path / "a", **WRONG_MOT[message])  # type: ignore[arg-type]
    with pytest.raises(CommandError, match=message) as caught:
        open_dataset(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_without_annotations_only_the_clean_run_can_say_what_is_right(tmp_path: Path) -> None:
    folder = mot(tmp_path / "test", [])
    with pytest.raises(CommandError, match="--truth clean"):
        open_dataset(folder)
    truth, [clip] = read(folder, "clean")
    assert (len(clip.images), clip.video and clip.video.fps, truth.annotations) == (4, 30, [])
    mot(tmp_path / "both" / "one")
    mot(tmp_path / "both" / "two", [], info=INFO.replace("street", "two"))
    with pytest.raises(CommandError, match="no annotations of two"):
        open_dataset(tmp_path / "both")


def test_pictures_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = mot(tmp_path / "a")
    cv2.imwrite(str(folder / "img1" / "000003.jpg"), np.zeros((10, 10, 3), np.uint8))
    from featlink.dataset import check_pictures

    data = open_dataset(folder)
    assert check_pictures(data.images, ground_truth(data)[0]).faults.keys() == {3}


SFU = "BasketballPass_64x48_50"


def sfu(folder: Path, texts: dict[str, str]) -> Path:
    for number in range(3):
        picture(folder / "images" / f"{SFU}_seq_{number:03d}.png")
    for name, text in texts.items():
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / name).write_text(text)
    return folder


def test_an_sfu_folder_with_its_own_annotations(tmp_path: Path) -> None:
    texts = {f"{SFU}_seq_000.txt": "0 0.5 0.5 0.25 0.5\n32 0.1 0.1 0.1 0.1\n", f"{SFU}_seq_002.txt": ""}
    truth, [clip] = read(sfu(tmp_path / SFU, texts))
    assert (clip.name, clip.video and clip.video.fps, len(clip.images)) == (SFU, 50, 3)
    person, ball = truth.annotations
    assert (person.category_id, person.bbox, person.instance_id) == (1, (24, 12, 16, 24), None)
    assert ball.category_id == 37
    truth, _ = read(sfu(tmp_path / "tracks" / SFU, {f"{SFU}_seq_000.txt": "56 7 0.5 0.5 0.25 0.5"}))
    assert [(one.category_id, one.instance_id) for one in truth.annotations] == [(62, 7)]


def test_an_sfu_folder_with_coco_annotations(tmp_path: Path) -> None:
    images = [{"id": 9 - number, "file_name": f"{SFU}_seq_{number:03d}.png"} for number in range(3)]
    box = {"id": 1, "image_id": 8, "category_id": 1, "bbox": [1, 2, 3, 4]}
    document = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "person"}]}
    folder = sfu(tmp_path / "SFU" / SFU, {f"{SFU}.json": json.dumps(document)})
    for path in (folder, folder.parent):
        truth, [clip] = read(path)
        assert [(one.bbox, one.area, one.iscrowd) for one in truth.annotations] == [((1, 2, 3, 4), 12, 0)]
        assert truth.annotations[0].image_id == clip.images[1].id
        assert truth.categories == [coco.Category(1, "person")]
    images.append({"id": 1, "file_name": "other.png"})
    (folder / "annotations" / f"{SFU}.json").write_text(json.dumps(document))
    with pytest.raises(CommandError, match=r"names other\.png"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a_0.txt", "0 0.5 0.5", "3 columns"),
        ("a_0.txt", "80 0.5 0.5 0.1 0.1", "80 classes"),
        ("a_0.txt", "0 0.5 nan 0.1 0.1", "no number"),
        ("a_3.txt", "", "none of frame 3"),
        ("a_1.txt", "", "cannot be told"),
        ("a.json", "{", "not a COCO instances file"),
        ("a.json", '{"images": 1}', "not a COCO instances file"),
    ],
)
def test_a_wrong_sfu_folder_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        open_dataset(sfu(tmp_path / SFU, {name: text}))


def test_pictures_in_order(tmp_path: Path) -> None:
    for number in (9, 10, 8):
        picture(tmp_path / "walk" / f"f{number}.png")
    picture(tmp_path / "walk" / "other.png")
    data = open_dataset(tmp_path / "walk" / "f%d.png", "clean")
    truth, [clip] = read(tmp_path / "walk" / "f%d.png", "clean")
    assert [data.images[image.id].name for image in clip.images] == ["f8.png", "f9.png", "f10.png"]
    assert [image.frame_id for image in clip.images] == [8, 9, 10]
    assert (clip.name, truth.annotations) == ("walk", [])
    assert open_dataset(data.source, "clean").images == data.images
    assert len(coco.clips(ground_truth(open_dataset(tmp_path / "walk", "clean"), "clean")[0])) == 4, "still stills"
    for wrong in ("none%d.png", "f%d%d.png"):
        with pytest.raises(CommandError):
            open_dataset(tmp_path / "walk" / wrong, "clean")
    with pytest.raises(CommandError, match="--truth clean"):
        open_dataset(tmp_path / "walk" / "f%d.png")


def filmed(path: Path, count: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 12)
        stream.width, stream.height = WIDTH, HEIGHT
        for number in range(count):
            grey = np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_unpacked_videos_are_deleted_when_nobody_opens_them(tmp_path: Path) -> None:
    films = [filmed(tmp_path / f"{count}.mp4", count) for count in (2, 3, 4)]
    first, second = ({*open_dataset(film, "clean").images.values()} for film in films[:2])
    long_ago = time.time() - 31 * 86400
    for pictures in (first, second):
        os.utime(next(iter(pictures)).parent, (long_ago, long_ago))
    open_dataset(films[1], "clean")
    open_dataset(films[2], "clean")
    assert not any(path.exists() for path in first)
    assert all(path.exists() for path in second), "opened again meanwhile"
    assert len(open_dataset(films[0], "clean").images) == 2


def test_a_video_file_is_unpacked_once(tmp_path: Path) -> None:
    film = filmed(tmp_path / "film.mp4", 5)
    truth, [clip] = read(film, "clean")
    assert (clip.name, clip.video and clip.video.fps, len(truth.images)) == ("film", 12, 5)
    data = open_dataset(film, "clean")
    assert data.source == film
    first = {path: path.stat().st_mtime_ns for path in data.images.values()}
    for number, path in enumerate(first):
        assert abs(cv2.imread(str(path)).mean() - 40 * number) < 4
    assert {path: path.stat().st_mtime_ns for path in open_dataset(film, "clean").images.values()} == first
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(CommandError, match="Invalid data"):
        open_dataset(tmp_path / "text.mp4", "clean")
    assert not list((tmp_path / "cache" / "featlink" / "videos").glob(".new*")), "nothing half unpacked is left"


def test_cocovid_with_gaps_and_two_sizes(tmp_path: Path) -> None:
    images = [
        {"id": id, "file_name": f"{id}.png", "width": 64, "height": 48, "video_id": 1, "frame_id": frame}
        for id, frame in ((1, 5), (2, 3), (3, 9))
    ]
    document = {"images": images, "annotations": [], "categories": [], "videos": [{"id": 1, "name": "a", "fps": 5}]}
    for id in (1, 2, 3):
        picture(tmp_path / f"{id}.png")
    (tmp_path / "a.json").write_text(json.dumps(document))
    _, [clip] = read(tmp_path)
    assert clip.ids == [2, 1, 3]
    _, [clip] = read(tmp_path / "a.json", "clean")
    assert (clip.ids, clip.video and clip.video.fps) == ([2, 1, 3], 5)
    images[0]["width"] = 65
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises((DatasetError, FeatlinkError), match="frames of"):
        read(tmp_path)
