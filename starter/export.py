"""Makes the bundled checkpoint of a trained one: ``python -m starter.export FOLDER``, that of :mod:`starter.train`."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn

from starter.batches import LABELS, SEEDS
from starter.bundle import WEIGHTS, encode
from starter.embed import embed
from starter.scenes import SceneConfig, scene
from starter.train import network


def load(checkpoint: Path) -> tuple[MaskRCNN, dict[str, str]]:
    """The averaged narrow network of a training checkpoint, in eval mode, and what the export says of it."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    trained = network()
    trained.load_state_dict(state["averaged"])
    facts = {"min_size": state["min_size"], "max_size": state["max_size"], "training_steps": state["step"]}
    return trained.eval(), {name: str(value) for name, value in facts.items()}


def export(trained: MaskRCNN, metadata: dict[str, str]) -> bytes:
    """The file of the stock network that equals a narrow one, but for 8 bits a weight."""
    stock = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).state_dict()
    wide = embed(trained, list(LABELS), samples(trained), stock)
    facts = {"architecture": "maskrcnn_resnet50_fpn", **metadata}
    return encode({name: value.numpy() for name, value in wide.items()}, facts)


def samples(trained: MaskRCNN, count: int = 8) -> Tensor:
    """Normalised training scenes, (count, 3, 480, 640)."""
    config = SceneConfig("train")
    images = np.stack([scene(SEEDS + 10**8 + number, config).image for number in range(count)])
    mean, deviation = (
        torch.tensor(values)[:, None, None] for values in (trained.transform.image_mean, trained.transform.image_std)
    )
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with last.pt")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    data = export(*load(arguments.folder / "last.pt"))
    arguments.out.write_bytes(data)
    sums = arguments.out.with_name("SHA256SUMS")
    sums.write_text(f"{hashlib.sha256(data).hexdigest()}  {arguments.out.name}\n")


if __name__ == "__main__":
    main()
