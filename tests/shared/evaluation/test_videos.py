"""CocoVID: frames of videos are read in order, what does not fit is refused, and stills are what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from featlink.shared.errors import DatasetError
from featlink.shared.evaluation import coco
from featlink.shared.result import ItemId

Document = dict[str, Any]


def document() -> Document:
    """Two videos, whose frames are mixed and have gaps, and a still."""
    frames = [(11, 2, 4), (12, 1, 3), (13, 2, 0), (14, 1, 1)]
    images = [
        {"id": id, "width": 8, "height": 6, "video_id": video, "frame_id": frame, "file_name": f"{id}.png"}
        for id, video, frame in frames
    ]
    box = {"category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}
    return {
        "images": [*images, {"id": 1, "width": 5, "height": 5}],
        "videos": [{"id": 1, "name": "street", "fps": 15}, {"id": 2, "name": "square", "width": 8}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": id, "image_id": id, "instance_id": 7, **box} for id in (11, 12, 14)],
    }


def read(data: Document) -> tuple[coco.GroundTruth, str]:
    return coco.read(json.dumps(data).encode())


def test_clips_have_their_frames_in_order() -> None:
    truth, repairs = read(document())
    clips = coco.clips(truth)
    assert [(clip.id, [image.id for image in clip.images]) for clip in clips] == [
        (2, [13, 11]),
        (1, [14, 12]),
        (1, [1]),
    ]
    assert [clip.video and (clip.video.name, clip.video.fps) for clip in clips] == [
        ("square", None),
        ("street", 15),
        None,
    ]
    assert [image.item for image in truth.images] == [ItemId(2, 4), ItemId(1, 3), ItemId(2, 0), ItemId(1, 1), ItemId(1)]
    assert [one.instance_id for one in truth.annotations] == [7, 7, 7]
    assert repairs == ""
    assert coco.load(coco.dump(truth)) == truth


def test_a_still_data_set_is_the_same_with_and_without_such_fields() -> None:
    data = document()
    plain = {name: data[name] for name in ("categories",)}
    plain["images"] = [{name: one[name] for name in ("id", "width", "height")} for one in data["images"]]
    plain["annotations"] = [{k: v for k, v in one.items() if k != "instance_id"} for one in data["annotations"]]
    for image in data["images"]:
        image.pop("video_id", None)
    assert coco.dump(read(data)[0]) == coco.dump(read(plain)[0])
    assert b"video" not in coco.dump(read(plain)[0])


def test_names_and_text_are_numbered() -> None:
    data = document()
    for image in data["images"][:4]:
        image |= {"video_id": {1: "street", 2: "square"}[image["video_id"]], "frame_id": str(image["frame_id"])}
    data["videos"] = [{"id": "street", "fps": 15}, {"id": "square", "fps": "many"}, {"name": "no id"}]
    data["annotations"][0]["instance_id"] = "Ada"
    truth, repairs = read(data)
    assert [(clip.id, clip.video) for clip in coco.clips(truth)][:2] == [
        (2, coco.Video(2, "square")),
        (1, coco.Video(1, "street", 15)),
    ]
    assert [one.instance_id for one in truth.annotations] == [1, 2, 2]
    for told in ("video_id that is a name", "frame_id that is text (4)", "frame rate", "instance_id", "without an id"):
        assert told in repairs


def test_frames_without_an_order_are_stills() -> None:
    data = document()
    del data["images"][0]["frame_id"]
    truth, repairs = read(data)
    assert [len(clip.images) for clip in coco.clips(truth)] == [1, 2, 1, 1]
    assert "without a frame number" in repairs
    assert truth.annotations[0].instance_id is None


WRONG: dict[str, Callable[[Document], object]] = {
    "both frame 3 of video 1": lambda data: data["images"][3].update(frame_id=3),
    "frames of 8×6 and of 9×6": lambda data: data["images"][3].update(width=9),
    "shows instance 7 twice": lambda data: data["annotations"][1].update(image_id=11),
    "two video entries have id 1": lambda data: data["videos"][1].update(id=1),
    "frame_id": lambda data: data["images"][3].update(frame_id=-1),
    "video_id": lambda data: data["images"][3].update(video_id=[1]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_refused(message: str) -> None:
    data = document()
    WRONG[message](data)
    with pytest.raises(DatasetError, match=message):
        read(data)
