"""Invert the edge's half, which an attacker knows: gradient descent on the picture until it would send the same."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from featlink.attacking.attacker import Attacker
from featlink.attacking.observing import Observation
from featlink.shared.errors import ModelError
from featlink.shared.features import Array
from featlink.shared.models.backbone import Front
from featlink.shared.models.fast.prune import drop_dead_channels
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN

_RATE = 0.02
_LEAST_RATE = 1e-4
_SMOOTH = 1.0
"""Weight of the total variation against the squared distance of channels of unit variance."""


class Inverter:
    """Change a picture step by step until the edge would make of it what was received.

    It minimises the mean squared distance of the finest tensor, each channel over its deviation, plus the picture's
    total variation (Mahendran and Vedaldi 2015), by Adam. There is nothing to train. Coarser tensors, which come out of
    more layers, lead the descent astray.

    Args:
        model: in the profile ``exact``; its backbone half is enough.
        steps: of gradient descent for each picture.

    Raises:
        ModelError: the network is not one of torchvision's detectors, through which errors are known to pass.
    """

    def __init__(self, model: SplitModel, steps: int) -> None:
        if not isinstance(model, TorchvisionRCNN) or model.profile != "exact":
            raise ModelError(f"cannot invert {model.name}: this is known of torchvision's detectors alone")
        network = copy.deepcopy(model.network).requires_grad_(False)
        if isinstance(getattr(network.backbone.body, "conv1", None), nn.Conv2d):  # a ResNet
            drop_dead_channels(network, model.split)
        self._front = Front(network.backbone, model.split)
        self._transform, self._spec, self.steps = network.transform, model.spec, steps

    def recover(self, attacker: Attacker, seen: Observation, start: Array) -> Array:
        """The picture that explains what was seen.

        Args:
            attacker: says which tensors it looks at, and how much their channels vary.
            seen: of one picture.
            start: what to begin with, float32 RGB (3, h, w) in 0..255, at the size of the network's input.

        Returns:
            The same for the picture that is found.
        """
        finest = attacker.sees[0].name
        levels = {one.name: torch.from_numpy(seen.levels[one.name])[None] for one in attacker.sees}
        wanted = attacker.normalised(levels)[finest]
        picture = (torch.from_numpy(start)[None] / 255).requires_grad_(True)
        optimiser = torch.optim.Adam([picture], _RATE)
        for step in range(self.steps):
            for group in optimiser.param_groups:
                group["lr"] = _RATE * (0.5 + 0.5 * math.cos(math.pi * step / self.steps)) + _LEAST_RATE
            far = functional.mse_loss(attacker.normalised(self._sent(picture))[finest], wanted)
            optimiser.zero_grad()
            (far + _SMOOTH * _variation(picture)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                picture.clamp_(0, 1)
        return np.ascontiguousarray(255 * picture.detach()[0].numpy(), np.float32)

    def _sent(self, picture: Tensor) -> dict[str, Tensor]:
        """What the edge would send of a picture in 0..1, (1, 3, h, w)."""
        height, width = picture.shape[-2:]
        divisor = self._spec.divisor
        whole = functional.pad(self._transform.normalize(picture), (0, -width % divisor, 0, -height % divisor))
        return dict(zip(self._spec.names, self._front(whole), strict=True))


def _variation(picture: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down plus across."""
    down, across = picture.diff(dim=-2), picture.diff(dim=-1)
    return down.abs().mean() + across.abs().mean()
