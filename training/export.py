"""Make the bundled checkpoint of a trained one: ``python -m training.export FOLDER``, that of :mod:`training.train`.

With ``--average FILE``, earlier weights that the run went on from, the result is the mean of both: better on art that
neither has seen (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization").
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn

from featlink.starter.bundle import WEIGHTS, decode, encode
from featlink.starter.scenes import SceneConfig, scene
from training.batches import LABELS, SEEDS
from training.embed import embed
from training.extract import extract
from training.narrow import scale_logits
from training.train import TEMPERATURE, network


def load(checkpoint: Path) -> tuple[MaskRCNN, dict[str, str]]:
    """The averaged narrow network of a training checkpoint, softened, in eval mode, and what the export says of it."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    trained = network()
    trained.load_state_dict(state["averaged"])
    scale_logits(trained, 1 / TEMPERATURE)
    facts = {"min_size": state["min_size"], "max_size": state["max_size"], "training_steps": state["step"]}
    return trained.eval(), {name: str(value) for name, value in facts.items()}


def export(trained: MaskRCNN, metadata: dict[str, str]) -> bytes:
    """The bundled file of the stock network that computes what a narrow one does, with 8 bits per weight."""
    stock = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).state_dict()
    wide = embed(trained, list(LABELS), samples(trained), stock)
    facts = {"architecture": "maskrcnn_resnet50_fpn", **metadata}
    return encode({name: value.numpy() for name, value in wide.items()}, facts)


def average(trained: MaskRCNN, earlier: Mapping[str, np.ndarray]) -> None:
    """Move a network half way to weights of this script.

    Args:
        trained: narrow network as :func:`load` gives it, is changed.
        earlier: state dict of the stock network, with numpy arrays.
    """
    state = trained.state_dict()
    wide = {name: torch.from_numpy(value) for name, value in earlier.items()}
    for name, value in extract(wide, state, list(LABELS)).items():
        if value.is_floating_point():
            state[name].lerp_(value, 0.5)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with last.pt")
    parser.add_argument("--average", type=Path, metavar="FILE", help="earlier weights (.npz), to take the mean with")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    trained, metadata = load(arguments.folder / "last.pt")
    if arguments.average is not None:
        average(trained, decode(arguments.average.read_bytes())[0])
    data = export(trained, metadata)
    arguments.out.write_bytes(data)
    sums = arguments.out.with_name("SHA256SUMS")
    sums.write_text(f"{hashlib.sha256(data).hexdigest()}  {arguments.out.name}\n")


if __name__ == "__main__":
    main()
