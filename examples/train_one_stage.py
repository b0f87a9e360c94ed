"""Train the detector of `one_stage.py` on drawn scenes, for two minutes of two cores, and sweep it on others.

    python train_one_stage.py [SECONDS]

writes weights, the bundled scenes with all objects called "thing", and a sweep to out/one_stage. The time is that of
all cores together.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from one_stage import Network
from safetensors.torch import save_file
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, masks_to_boxes, sigmoid_focal_loss

import featlink as fl
from featlink.starter.scenes import SceneConfig, scene

SIDE = 256
OUT = Path("out/one_stage")


def batch(rng: np.random.Generator, pictures: list[np.ndarray], boxes: list[np.ndarray]) -> tuple[Tensor, list[Tensor]]:
    """Eight squares, each cut from a scene and mirrored or not; boxes of what can be seen of at least a third."""
    squares, wanted = [], []
    for number in rng.integers(0, len(pictures), 8):
        x, y = rng.integers(0, np.array(pictures[number].shape[1::-1]) - SIDE + 1)
        picture, (left, top, right, bottom) = pictures[number][y : y + SIDE, x : x + SIDE], boxes[number].T
        seen = np.stack([left - x, top - y, right - x, bottom - y], 1).clip(0, SIDE)
        area = (seen[:, 2:] - seen[:, :2]).prod(1)
        seen = seen[(area > 60) & (area > (boxes[number][:, 2:] - boxes[number][:, :2]).prod(1) / 3)]
        if rng.random() < 0.5:
            picture, seen = (
                picture[:, ::-1],
                np.column_stack([SIDE - seen[:, 2], seen[:, 1], SIDE - seen[:, 0], seen[:, 3]]),
            )
        squares.append(torch.from_numpy(picture.transpose(2, 0, 1) / np.float32(255)))
        wanted.append(torch.from_numpy(seen.astype(np.float32)))
    return torch.stack(squares), wanted


def loss(said: Tensor, wanted: list[Tensor]) -> Tensor:
    """FCOS's: every cell whose centre is near the middle of a box is to find it, the smallest of several."""
    cells = torch.arange(said.shape[-1]) * 8 + 4
    centres = torch.stack(torch.meshgrid(cells, cells, indexing="xy"), -1).reshape(-1, 2)
    total = torch.zeros(())
    for one, boxes in zip(said.flatten(2), wanted, strict=True):
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        near = ((centres[:, None] - middle).abs() <= half.clamp(max=12)).all(-1)
        areas = torch.where(near, half.prod(1), torch.inf)
        positive = near.any(1)
        total = total + sigmoid_focal_loss(one[0], positive.float(), reduction="sum") / (1 + positive.sum())
        if positive.any():
            at, sides = centres[positive], one[1:, positive].T
            found = torch.cat([at - sides[:, :2], at + sides[:, 2:]], 1)
            total = total + generalized_box_iou_loss(found, boxes[areas[positive].argmin(1)], reduction="mean")
    return total / len(wanted)


def train(seconds: float) -> Network:
    """Draw a new scene every step, and learn from the last few hundred, for so many seconds of all cores together."""
    torch.manual_seed(0)
    rng, network, begun, seed = np.random.default_rng(0), Network(), time.process_time(), 10**6
    network.head[1].bias.data[0] = -3  # most cells find nothing
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    pictures, boxes = [], []
    while (spent := (time.process_time() - begun) / seconds) < 1:
        drawn = scene(seed := seed + 1, SceneConfig("train", ((480, 360), (360, 480)), crowds=0.0))
        masks = np.stack([drawn.mask(number) for number in range(len(drawn.objects))])
        found = masks_to_boxes(torch.from_numpy(masks)).numpy()
        pictures, boxes = [*pictures, drawn.image][-300:], [*boxes, found][-300:]
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, 20 * spent + 0.05) * (1 - spent)
        squares, wanted = batch(rng, pictures, boxes)
        fine = network.fine(squares)
        optimiser.zero_grad()
        error = loss(network.rest(fine, network.coarse(fine)), wanted)
        error.backward()
        optimiser.step()
    print(f"{seed - 10**6} steps, loss {error.item():.2f}")
    return network


def objects(folder: Path) -> Path:
    """The bundled scenes with one category."""
    data = fl.open_dataset("starter")
    shutil.copytree(next(iter(data.images.values())).parent, folder / "val", dirs_exist_ok=True)
    truth = json.loads(data.annotations.read_bytes())
    truth["categories"] = [{"id": 1, "name": "thing"}]
    truth["annotations"] = [one | {"category_id": 1} for one in truth["annotations"]]
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    return folder


if __name__ == "__main__":
    dataset = objects(OUT / "objects")
    save_file(train(float(sys.argv[1]) if len(sys.argv) > 1 else 240).state_dict(), OUT / "one_stage.safetensors")
    model = f"{Path(__file__).with_name('one_stage.py')}:OneStage"
    conditions = ["quantize(bits=8)", "quantize(bits=5) | entropy", "hevc(qp=30)", "image: jpeg(quality=30)"]
    options = {"model": model, "weights": str(OUT / "one_stage.safetensors"), "out": OUT / "sweep"}
    for row in fl.sweep(dataset, conditions, **options):
        print(f"{row['condition']}: {row['bits_per_image'] / 8000:,.1f} kB an image, box AP {100 * row['bbox_AP']:.1f}")
    print(f"featlink bench --model {model} --weights {options['weights']} --dataset {dataset} --out {OUT / 'bench'}")
