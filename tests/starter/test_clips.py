"""Clips: the same pixels everywhere, exact masks and lasting instances, and motion that is what it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from featlink.dataset import ground_truth, open_dataset
from featlink.shared.evaluation import coco
from featlink.starter.clips import MOTIONS, ClipConfig, ClipFrame, Motion, clip
from featlink.starter.folder import write_clips

FIRST = {
    "static": "ffb32909958a9ccd",
    "pan": "1e20ffc9f78184a5",
    "handheld": "7b0ab445c0f93909",
    "traffic": "1a02d7867cdd7f4b",
}


def digest(frames: list[ClipFrame]) -> str:
    told = [(frame.instances, [thing.artwork for thing in frame.scene.objects]) for frame in frames]
    pixels = b"".join(frame.scene.image.tobytes() + frame.scene.owner.tobytes() for frame in frames)
    return hashlib.sha256(pixels + repr(told).encode()).hexdigest()[:16]


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_first_clips_never_change(motion: Motion) -> None:
    frames = list(clip(5, ClipConfig(motion, 3)))
    assert digest(frames) == FIRST[motion]
    assert digest(list(clip(5, ClipConfig(motion, 2)))) == digest(frames[:2])


def noise(frames: list[ClipFrame]) -> np.ndarray:
    """What is not the same in two frames of a ground that stands still."""
    first, second = (frame.scene for frame in frames[:2])
    still = (first.owner == 0) & (second.owner == 0)
    return (first.image.astype(int) - second.image)[still]


def test_noise_is_drawn_anew_in_each_frame() -> None:
    changes = noise(list(clip(1, ClipConfig("static", 2))))
    assert 0.8 < changes.std() / np.sqrt(2) < 6
    assert abs(changes.mean()) < 0.05


def moved(frames: list[ClipFrame]) -> float:
    """How much the ground of the last frame differs from that of the first, beyond noise."""
    first, last = (frame.scene for frame in (frames[0], frames[-1]))
    still = cv2.erode(((first.owner == 0) & (last.owner == 0)).astype(np.uint8), np.ones((33, 33), np.uint8)) > 0
    smooth = [cv2.GaussianBlur(scene.image, (0, 0), 4).astype(int) for scene in (first, last)]
    return float(np.abs(smooth[0] - smooth[1])[still].mean())


def test_the_camera_does_what_the_motion_says() -> None:
    differences = {motion: moved(list(clip(3, ClipConfig(motion, 10)))) for motion in MOTIONS}
    assert max(differences["static"], differences["traffic"]) < 0.5
    assert min(differences["pan"], differences["handheld"]) > 1


@pytest.mark.slow
def test_objects_go_on_and_vehicles_come_anew() -> None:
    for motion in MOTIONS:
        frames = list(clip(4, ClipConfig(motion, 30)))
        assert all(len(set(frame.instances)) == len(frame.instances) for frame in frames)
        seen = {number for frame in frames for number in frame.instances}
        assert (len(seen) > len(frames[0].instances)) == (motion == "traffic")
    streets = [list(clip(seed, ClipConfig("traffic", 2))) for seed in range(4)]
    kinds = {thing.category_id for street in streets for thing in street[0].scene.objects}
    assert kinds & {3, 6, 8}
    assert kinds <= {1, 3, 6, 8, 10, 13, 18}


@pytest.mark.slow
def test_objects_move_smoothly() -> None:
    """Between one frame and the next, none jumps by more than the fastest vehicle drives."""
    for motion in MOTIONS:
        before: dict[int, np.ndarray] = {}
        for frame in clip(6, ClipConfig(motion, 12)):
            corners = {instance: corner(frame.scene.mask(index)) for index, instance in enumerate(frame.instances)}
            for instance in corners.keys() & before.keys():
                jump = np.abs(corners[instance] - before[instance]).max()
                assert np.isnan(jump) or jump < 20
            before = corners


def corner(mask: np.ndarray) -> np.ndarray:
    """Of an object that lies inside, its lower right corner; else NaN."""
    inside = mask.any() and not (mask[[0, -1]].any() or mask[:, [0, -1]].any())
    return np.argwhere(mask).max(axis=0) if inside else np.full(2, np.nan)


@pytest.mark.slow
def test_a_written_folder_is_cocovid(tmp_path: Path) -> None:
    for workers in (1, 2):
        assert list(write_clips(tmp_path / str(workers), 3, 4, seed=7, workers=workers)) == [1, 2, 3]
    one, two = (sorted(path for path in (tmp_path / str(n)).rglob("*") if path.is_file()) for n in (1, 2))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    data = open_dataset(tmp_path / "1")
    truth, repairs = ground_truth(data)
    assert repairs == ""
    clips = coco.clips(truth)
    assert [(len(one.images), one.video and one.video.name, one.video and one.video.fps) for one in clips] == [
        (4, "static-01", 15),
        (4, "pan-02", 15),
        (4, "handheld-03", 15),
    ]
    drawn = list(clip(7 * 10**6 + 1, ClipConfig("pan", 4)))
    for image, frame in zip(clips[1].images, drawn, strict=True):
        assert np.array_equal(cv2.imread(str(data.images[image.id]))[..., ::-1], frame.scene.image)
    by_frame = [
        {one.instance_id: one for one in truth.annotations if one.image_id == image.id} for image in clips[1].images
    ]
    for found, frame in zip(by_frame, drawn, strict=True):
        shown = {n: frame.scene.mask(k) for k, n in enumerate(frame.instances) if frame.scene.mask(k).sum() >= 60}
        assert found.keys() == shown.keys()
        for instance, mask in shown.items():
            segmentation = found[instance].segmentation
            assert isinstance(segmentation, coco.Rle)
            told = {"size": list(segmentation.size), "counts": str(segmentation.counts).encode()}
            assert np.array_equal(rle.decode(told).astype(bool), mask)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "frames", "seed"), [(0, 1, 1), (1, 0, 1), (1, 10**5 + 1, 1), (1, 1, 1000)])
def test_what_is_out_of_range_is_refused(tmp_path: Path, count: int, frames: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must be in"):
        list(write_clips(tmp_path, count, frames, seed))
    assert not list(tmp_path.iterdir())
