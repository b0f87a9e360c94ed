"""Clips whose objects and detections are written down: boxes by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import Detection
from featlink.shared.evaluation.protocol import ClipResult, clip_results
from featlink.shared.evaluation.streaming import AnswerTimes

Box = tuple[float, float, float, float]
SIZE = 200


def ground_truth(
    clips: Sequence[Sequence[Mapping[int, Box]]], category: int = 1, fps: float = 10, ids: bool = True
) -> coco.GroundTruth:
    """Clips of frames of boxes by instance id; image ids count through, video ids from 1."""
    images, annotations = [], []
    for video, frames in enumerate(clips, 1):
        for number, objects in enumerate(frames):
            image = {"id": len(images) + 1, "width": SIZE, "height": SIZE, "video_id": video, "frame_id": number}
            images.append(image)
            for instance, box in objects.items():
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image["id"],
                        "category_id": category,
                        "bbox": list(box),
                        "area": box[2] * box[3],
                        "iscrowd": int(instance < 0),
                        **({"instance_id": instance} if ids and instance >= 0 else {}),
                    }
                )
    return coco.parse(
        {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "videos": [{"id": video, "fps": fps} for video in range(1, len(clips) + 1)],
        }
    )


def detection(image: int, box: Sequence[float], score: float = 0.9, category: int = 1) -> Detection:
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def evaluated(
    truth: coco.GroundTruth, found: Sequence[Sequence[Any]], times: AnswerTimes | None = None
) -> list[ClipResult]:
    """The clips with what was found in each image, in the order of ids: boxes, or detections."""
    predictions = {
        image: [one if isinstance(one, dict) else detection(image, one) for one in boxes]
        for image, boxes in enumerate(found, 1)
    }
    clips = clip_results(coco.clips(truth), coco.items(truth), predictions)
    return [ClipResult(clip.frames, clip.fps, times) for clip in clips]
