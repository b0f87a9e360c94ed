"""A one-stage detector with a skip connection over the cut; `train_one_stage.py` trains it in two minutes."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import nms

import featlink as fl


def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:  # noqa: D103
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.ReLU())


class Network(nn.Module):  # noqa: D101
    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 24, 4, stride=4), nn.ReLU(), layer(24, 32), layer(32, 48, 2))
        self.coarse = nn.Sequential(layer(48, 96, 2), layer(96, 96))
        self.deep = nn.Sequential(layer(96, 128, 2), layer(128, 128), layer(128, 96))
        self.merge, self.skip = layer(96, 96), nn.Conv2d(48, 96, 1)
        self.head = nn.Sequential(layer(96, 64), nn.Conv2d(64, 5, 1))

    def rest(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Of every 8th pixel, a score and the distances to the four sides of a box, (N, 5, h, w)."""
        coarse = self.merge(coarse + interpolate(self.deep(coarse), coarse.shape[-2:]))
        said = self.head(self.skip(fine) + interpolate(coarse, fine.shape[-2:]))
        return torch.cat([said[:, :1], 8 * said[:, 1:].clamp(-4, 6).exp()], 1)


class OneStage(fl.SplitModel):  # noqa: D101
    name, categories = "one_stage", ("background", "thing")
    spec = fl.FeatureSpec((fl.TensorSpec("fine", 48, 8), fl.TensorSpec("coarse", 96, 16)), divisor=32)

    def __init__(self, config: fl.ModelConfig, heads: bool = True) -> None:
        self.weights = hashlib.sha256(Path(config.weights).read_bytes()).hexdigest()[:16]
        self.network = Network().eval()
        self.network.load_state_dict(load_file(config.weights))

    @torch.inference_mode()
    def encode_input(self, pixels: fl.Array, sizes: fl.Sizes) -> fl.FeatureMaps:  # noqa: D102
        edges = [(0, whole - side) for whole, side in zip(sizes.padded, sizes.resized, strict=True)]
        fine = self.network.fine(torch.from_numpy(np.pad(pixels / 255, ((0, 0), *edges)))[None])
        return fl.FeatureMaps({"fine": fine[0].numpy(), "coarse": self.network.coarse(fine)[0].numpy()}, sizes)

    @torch.inference_mode()
    def decode(self, features: fl.FeatureMaps) -> fl.Detections:  # noqa: D102
        fine, coarse = (torch.from_numpy(features.levels[name].copy())[None] for name in self.spec.names)
        said = self.network.rest(fine, coarse)[0].flatten(1)
        scores, best = said[0].sigmoid().topk(min(300, said.shape[1]))
        rows, columns, (height, width) = best // fine.shape[-1], best % fine.shape[-1], features.sizes.original
        boxes = torch.stack([columns, rows, columns, rows], 1) * 8 + 4 + said[1:, best].T * torch.tensor([-1, -1, 1, 1])
        boxes = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        kept = nms(boxes, scores, 0.5)[:50]
        return fl.Detections(boxes[kept].numpy(), scores[kept].numpy(), np.ones(len(kept), int), None, self.categories)
