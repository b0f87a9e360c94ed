"""Train the detector of `one_stage.py` on drawn scenes, for two minutes of two cores, and sweep it on others.

    python train_one_stage.py [SECONDS]

writes weights, 64 scenes of other drawings with all objects called "thing", and a sweep to out/one_stage. The time is
that of all cores together.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from one_stage import Network
from safetensors.torch import save_file
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss, masks_to_boxes, sigmoid_focal_loss

import featlink as fl
from featlink.starter.scenes import SceneConfig, scene

OUT = Path("out/one_stage")
TRAIN = SceneConfig("train", ((320, 256),), (1, 4), (40, 180), crowds=0.0)
VALIDATE = SceneConfig("val", ((320, 256),), (1, 4), (40, 180), crowds=0.0)
SEED, MEMORY, BATCH, RATE = 10**6, 400, 8, 3e-3


def draw(seed: int, config: SceneConfig) -> tuple[np.ndarray[Any, Any], Tensor]:
    """Draw a scene: its picture (H, W, 3), and the corners (N, 4) of its objects."""
    drawn = scene(seed, config)
    masks = np.stack([drawn.mask(number) for number in range(len(drawn.objects))])
    return drawn.image, masks_to_boxes(torch.from_numpy(masks)) + torch.tensor([0, 0, 1, 1])


def loss(said: Tensor, wanted: list[Tensor]) -> Tensor:
    """FCOS's: a cell near the middle of a box is to find it, the smallest of several."""
    rows, columns = (torch.arange(side) * 8 + 4 for side in said.shape[-2:])
    centres = torch.cartesian_prod(rows, columns).flip(1)
    total = torch.zeros(())
    for one, boxes in zip(said.flatten(2), wanted, strict=True):
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        near = ((centres[:, None] - middle).abs() <= (half / 2).clamp(8, 24)).all(-1)
        areas, positive = torch.where(near, half.prod(1), torch.inf), near.any(1)
        total = total + sigmoid_focal_loss(one[0], positive.float(), reduction="sum") / (1 + positive.sum())
        if positive.any():
            at, sides = centres[positive], one[1:, positive].T
            found = torch.cat([at - sides[:, :2], at + sides[:, 2:]], 1)
            total = total + generalized_box_iou_loss(found, boxes[areas[positive].argmin(1)], reduction="mean")
    return total / len(wanted)


def train(seconds: float) -> Network:
    """Draw a new scene every step, and learn from the last few hundred, mirrored or not."""
    torch.manual_seed(0)
    rng, network, begun, steps = np.random.default_rng(0), Network(), time.process_time(), 0
    torch.nn.init.constant_(network.head[1].bias[:1], -3)  # most cells find nothing
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    seen = [draw(SEED + number, TRAIN) for number in range(BATCH)]
    while (spent := (time.process_time() - begun) / seconds) < 1:
        steps += 1
        seen = [*seen, draw(SEED + BATCH + steps, TRAIN)][-MEMORY:]
        pictures, wanted = zip(*(seen[number] for number in rng.integers(0, len(seen), BATCH)), strict=True)
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
        if rng.random() < 0.5:
            width = batch.shape[-1]
            batch = batch.flip(-1)
            wanted = tuple(torch.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], 1) for b in wanted)
        optimiser.param_groups[0]["lr"] = RATE * min(1, 20 * spent + 0.05) * (1 - spent)
        optimiser.zero_grad()
        fine = network.fine(batch)
        error = loss(network.rest(fine, network.coarse(fine)), list(wanted))
        error.backward()
        optimiser.step()
    print(f"{steps} steps, loss {error.item():.2f}")
    return network


def write(folder: Path, count: int = 64) -> Path:
    """Write scenes of drawings that were not trained on."""
    (folder / "val").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        picture, boxes = draw(number, VALIDATE)
        cv2.imwrite(str(folder / "val" / f"{number}.png"), picture[..., ::-1])
        images.append(
            {"id": number, "file_name": f"{number}.png", "width": picture.shape[1], "height": picture.shape[0]}
        )
        for box in box_convert(boxes, "xyxy", "xywh").tolist():
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box}
            annotations.append(one | {"area": box[2] * box[3], "iscrowd": 0})
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    return folder


if __name__ == "__main__":
    weights, dataset = OUT / "one_stage.safetensors", write(OUT / "things")
    save_file(train(float(sys.argv[1]) if len(sys.argv) > 1 else 240).state_dict(), weights)
    model = f"{Path(__file__).with_name('one_stage.py')}:OneStage"
    conditions = ["quantize(bits=8)", "quantize(bits=4) | entropy", "hevc(qp=30)", "image: jpeg(quality=30)"]
    for row in fl.sweep(dataset, conditions, model=model, weights=str(weights), out=OUT / "sweep"):
        print(f"{row['condition']}: {row['bits_per_image'] / 8000:,.1f} kB an image, box AP {100 * row['bbox_AP']:.1f}")
    print(f"featlink report {OUT / 'sweep'}")
