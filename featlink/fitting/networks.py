"""The networks of the learned reduction while they are trained: as ``networks``, in torch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from featlink.channel.reduction.networks import BLOCKS, COARSEST, FINEST, SEEN, STEP, bands
from featlink.channel.reduction.rounding import ROUND
from featlink.shared.features import Array

_WIDTH, _INNER, _GAINS = 160, 80, 64
"""Channels of the receiver's network, inside its blocks, and of the sender's."""


class Networks(nn.Module):
    """Both ends. Untrained, the gains are 1 and the receiver changes nothing: the ``pca`` step.

    Args:
        deviation: (K,) of the components.
    """

    deviation: Tensor
    band: Tensor

    def __init__(self, deviation: Array) -> None:
        super().__init__()
        count = len(deviation)
        seen = min(SEEN, count)
        self.register_buffer("deviation", torch.from_numpy(deviation)[:, None, None], persistent=False)
        self.register_buffer("band", torch.from_numpy(bands(count)), persistent=False)
        self.gains = nn.ModuleList(
            [
                nn.Conv2d(seen + 1, _GAINS, 1),
                nn.Conv2d(_GAINS, _GAINS, 3, padding=1),
                nn.Conv2d(_GAINS, _GAINS, 3, padding=1),
                nn.Conv2d(_GAINS, int(bands(count).max()) + 1, 1),
            ]
        )
        self.refine = nn.ModuleDict({"in": nn.Conv2d(count + 1, _WIDTH, 1), "out": nn.Conv2d(_WIDTH, count, 1)})
        for block in range(BLOCKS):
            self.refine[f"a{block}"] = nn.Conv2d(_WIDTH, _INNER, 3, padding=1)
            self.refine[f"b{block}"] = nn.Conv2d(_INNER, _WIDTH, 1)
        for last in (self.gains[-1], self.refine["out"]):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def send(self, components: Tensor, step: float) -> tuple[Tensor, Tensor]:
        """Sender: what is rounded, in steps, before and after. Gradients pass as if it were not rounded."""
        x = _with_step(components[:SEEN] / self.deviation[:SEEN], step)
        hidden = self.gains[0](x).relu()
        for layer in (self.gains[1], self.gains[2]):
            hidden = hidden + layer(hidden).relu()
        gains: Tensor = self.gains[3](hidden)[0].clamp(COARSEST, FINEST).exp()[self.band]
        whole = components * gains / step
        rounded = whole.sign() * torch.floor(whole.abs() + ROUND)
        return whole, whole + (rounded - whole).detach()

    def receive(self, rounded: Tensor, step: float) -> Tensor:
        """Receiver: components from whole numbers of steps."""
        received = rounded * step
        scale = torch.sqrt(self.deviation**2 / 4 + step**2)
        hidden = self.refine["in"](_with_step(received / scale, step))
        for block in range(BLOCKS):
            hidden = hidden + self.refine[f"b{block}"](self.refine[f"a{block}"](hidden.relu()).relu())
        change: Tensor = self.refine["out"](hidden.relu())[0]
        return received + change * self.deviation.clamp(max=step)

    def layers(self) -> dict[str, Array]:
        """The weights as :mod:`featlink.channel.reduction.networks` takes them."""
        return {name: np.ascontiguousarray(value.detach().cpu().numpy()) for name, value in self.state_dict().items()}


def bits_of(whole: Tensor) -> Tensor:
    """About how many bits values cost when they are rounded and coded, smooth enough to learn from."""
    return 1.3 * torch.log2(1 + 3 * whole * whole).sum()


def _with_step(x: Tensor, step: float) -> Tensor:
    return torch.cat([x, torch.full_like(x[:1], math.log(step / STEP))])[None]
