"""Split a network of your own in two, and sweep it; no other file is touched.

The command line and the services take it as ``--model own_model.py:build`` and ``FEATLINK_MODEL=own_model.py:build``.
A real one would load trained weights and name their digest; this one is random, so its AP is 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import featlink as fl


class OwnModel(fl.SplitModel):
    """Two convolutions, and of each coarse cell a box with a class."""

    name = "own_model"
    weights = "000000000000002a"  # 16 hex digits that name the weights
    categories = ("background", "person", "car")
    spec = fl.FeatureSpec((fl.TensorSpec("fine", 8, 4), fl.TensorSpec("coarse", 16, 8)), divisor=8)

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(42)
            self.fine, self.coarse = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 16, 2, stride=2)
            self.classify = nn.Conv2d(16, len(self.categories), 1)

    @torch.inference_mode()
    def encode_input(self, pixels: fl.Array, sizes: fl.Sizes) -> fl.FeatureMaps:
        """The edge's half: RGB (3, h, w) in 0..255 to the tensors of ``spec``."""
        padded = np.zeros((1, 3, *sizes.padded), np.float32)
        padded[0, :, : pixels.shape[1], : pixels.shape[2]] = pixels / 255
        fine = self.fine(torch.from_numpy(padded)).relu()
        coarse = self.coarse(fine).relu()
        return fl.FeatureMaps({"fine": fine[0].numpy(), "coarse": coarse[0].numpy()}, sizes)

    @torch.inference_mode()
    def decode(self, features: fl.FeatureMaps) -> fl.Detections:
        """The cloud's half: features to boxes in pixels of the original image, the surest first."""
        cells = torch.from_numpy(np.array(features.levels["coarse"])) + features.levels["fine"].mean()
        scores, labels = self.classify(cells[None])[0].softmax(0)[1:].max(0)
        order = scores.flatten().argsort(descending=True, stable=True)[:10]
        rows, columns = np.divmod(order.numpy(), scores.shape[1])
        boxes = np.stack([columns, rows, columns + 1, rows + 1], 1).astype(np.float32) * 8
        return fl.Detections(
            boxes, scores.flatten()[order].numpy(), labels.flatten()[order].numpy() + 1, None, self.categories
        )


def build(config: fl.ModelConfig, heads: bool = True) -> fl.SplitModel:
    """What ``--model own_model.py:build`` calls; an edge asks for no heads."""
    return OwnModel()


if __name__ == "__main__":
    for row in fl.sweep("starter", ["quantize(bits=2)", "vvenc(qp=40)"], limit=2, model=f"{__file__}:build"):
        print(f"{row['condition']}: {row['bits_per_image']:,.0f} bits an image, box AP {row['bbox_AP']}")
