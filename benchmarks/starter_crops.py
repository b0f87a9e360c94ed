"""How well the body of a training run tells crops of single drawings apart: training, validation and unseen-style art.

    torchrun --nproc-per-node 2 -m training.train --out run     # stop it when the crops are done, or let it end
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

from featlink.starter.scenes import Scene, scene
from featlink.starter.sprites import Part
from training.batches import CROPS, LABELS, Share
from training.train import Trainer

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
    parser.add_argument("run", type=Path, help="folder of training.train")
    parser.add_argument("--count", type=int, default=500, help="crops of each part")
    args = parser.parse_args()
    trainer = Trainer(args.run, steps=1, device=torch.device("cpu"), rate=0.0, share=Share())
    trainer.load()
    trainer.classifier.eval()
    right = {}
    for part in PARTS:
        shown = crops(part, args.count)
        images = torch.from_numpy(np.stack([crop.image for crop in shown])).permute(0, 3, 1, 2)
        labels = torch.tensor([LABELS[crop.objects[0].category_id] for crop in shown])
        hits = torch.cat([trainer.classify(some).argmax(1) for some in images.split(50)]) == labels
        right[part] = float(hits.float().mean())
        print(f"{part}: {right[part]:.3f} of {len(shown)} right")
    print(json.dumps({"crop_steps": trainer.crop_step, "steps": trainer.step, **right}))


if __name__ == "__main__":
    main()
