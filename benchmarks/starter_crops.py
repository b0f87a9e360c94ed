"""How well the body of a training run tells crops of single drawings apart: training, validation and unseen-style art.

    torchrun --nproc-per-node 2 -m starter.train --out run     # stop it when the crops are done, or let it end
    python -m benchmarks.starter_crops run

It judges the body with the classifier that the crops trained; scenes change the body later on. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from starter.batches import CROPS, LABELS
from starter.scenes import Scene, scene
from starter.sprites import Part
from starter.train import network

SEEDS = 7 * 10**8
PARTS: tuple[Part, ...] = ("train", "val", "held-out")


def crops(part: Part, count: int) -> list[Scene]:
    """Crops that show something, in the drawings' own colours but for slight changes."""
    config = replace(CROPS, part=part, recolour=0.0)
    return [crop for crop in (scene(SEEDS + number, config) for number in range(count)) if crop.objects]


@torch.inference_mode()
def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of starter.train")
    parser.add_argument("--count", type=int, default=500, help="crops of each part")
    args = parser.parse_args()
    state = torch.load(args.run / "last.pt", map_location="cpu", weights_only=True)
    trained = network()
    trained.load_state_dict(state["network"])
    body = trained.eval().backbone.body
    head = nn.Linear(*reversed(state["crop_head"]["weight"].shape))
    head.load_state_dict(state["crop_head"])
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in (trained.transform.image_mean, trained.transform.image_std)
    )

    def named(images: Tensor) -> Tensor:
        found: Tensor = head(body((images / 255 - mean) / deviation)["3"].mean((2, 3))).argmax(1)
        return found

    right = {}
    for part in PARTS:
        shown = crops(part, args.count)
        images = torch.from_numpy(np.stack([crop.image for crop in shown])).permute(0, 3, 1, 2).float()
        labels = torch.tensor([LABELS[crop.objects[0].category_id] for crop in shown])
        hits = torch.cat([named(some) for some in images.split(50)]) == labels
        right[part] = float(hits.float().mean())
        print(f"{part}: {right[part]:.3f} of {len(shown)} right")
    print(json.dumps({"crop_steps": state["crop_step"], "steps": state["step"], **right}))


if __name__ == "__main__":
    main()
