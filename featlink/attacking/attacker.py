"""The attacker: from received tensors to the picture that the edge saw. A ridge regression, and a network on top of it.

It is fully convolutional, so any picture's tensors will do, of any :class:`~featlink.shared.features.FeatureSpec`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from featlink.attacking.observing import Observation
from featlink.shared import fitted
from featlink.shared.errors import ModelError
from featlink.shared.features import Array, TensorSpec

COMMAND = "featlink fit attacker"
_FORM = "featlink-attacker-1"
_WIDTH, _BLOCKS = 64, 2
_FINEST = 16
"""Pixels a side that a cell is turned into at most; what is coarser is drawn at that resolution and enlarged."""
_LEAST = 1e-6
"""Share of the largest deviation below which a channel counts as constant."""


@dataclass(frozen=True)
class Origin:
    """What an attacker was trained on.

    Attributes:
        condition: whose receiver's tensors it takes, as text.
        model: architecture of the network.
        weights: identity of its weights.
        seed: of the training.
        pictures: how many it learned from.
        rounds: steps of the optimiser; 0 of a ridge regression alone.
        data: which pictures.
    """

    condition: str
    model: str
    weights: str
    seed: int
    pictures: int
    rounds: int
    data: str


class Attacker(nn.Module):
    """A picture is the linear map's, cell by cell, plus the network's correction, which is 0 before training.

    The linear map sees one cell of the finest tensor, of s×s pixels, and the coarser tensors, bilinearly enlarged, at
    the same place. The correction projects each tensor to 64 channels, adds them from coarse to fine with a 3×3
    convolution at each, has two residual blocks at the finest, and gives s×s pixels for each cell (to full resolution
    where s ≤ 16).

    Args:
        sees: the tensors, finest first.
        correct: have the network, too.

    Raises:
        ModelError: no tensors, or a stride that is no multiple of the next finer one.
    """

    def __init__(self, sees: Sequence[TensorSpec], correct: bool = True) -> None:
        super().__init__()
        self.sees = tuple(sees)
        if not sees or any(coarse.stride % fine.stride for fine, coarse in pairwise(sees)):
            raise ModelError("an attacker needs tensors whose strides are multiples of each finer one's")
        self.stride = sees[0].stride
        self.side = min(self.stride, _FINEST)
        channels = sum(one.channels for one in sees)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.linear = nn.Conv2d(channels, 3 * self.side**2, 1)
        self.correct = correct
        if correct:
            self.project = nn.ModuleDict({one.name: nn.Conv2d(one.channels, _WIDTH, 1) for one in sees})
            self.fuse = nn.ModuleDict({one.name: nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1) for one in sees})
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
                )
                for _ in range(_BLOCKS)
            )
            self.last = nn.Conv2d(_WIDTH, 3 * self.side**2, 3, padding=1)
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    mean: Tensor
    deviation: Tensor

    def forward(self, levels: Mapping[str, Tensor], corrected: bool = True) -> Tensor:
        """Rebuild pictures.

        Args:
            levels: name to (N, C, h, w).
            corrected: add the network's part, if there is one.

        Returns:
            (N, 3, H, W), about 0..1, for H and W those of the finest tensor times its stride.
        """
        normal = self.normalised(levels)
        out: Tensor = self.linear(self.gathered(normal))
        if corrected and self.correct:
            out = out + self._correction(normal)
        picture = functional.pixel_shuffle(out, self.side)
        return _enlarged(picture, self.stride // self.side)

    def normalised(self, levels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each channel less its mean, over its deviation."""
        parts = [one.channels for one in self.sees]
        scales = zip(self.sees, torch.split(self.mean, parts), torch.split(self.deviation, parts), strict=True)
        return {
            one.name: (levels[one.name] - mean[:, None, None]) / deviation[:, None, None]
            for one, mean, deviation in scales
        }

    def gathered(self, levels: Mapping[str, Tensor]) -> Tensor:
        """(N, ΣC, h, w): all tensors at the finest one's cells."""
        finest = levels[self.sees[0].name]
        return torch.cat([_like(levels[one.name], one.stride // self.stride, finest) for one in self.sees], 1)

    def _correction(self, normal: Mapping[str, Tensor]) -> Tensor:
        seen, stride = torch.zeros(1), 0  # nothing is seen yet
        for one in reversed(self.sees):
            here: Tensor = self.project[one.name](normal[one.name])
            here = here + _like(seen, stride // one.stride, here) if stride else here
            seen, stride = here + functional.relu(self.fuse[one.name](functional.relu(here))), one.stride
        for block in self.blocks:
            seen = seen + block(functional.relu(seen))
        out: Tensor = self.last(functional.relu(seen))
        return out


def _like(coarse: Tensor, times: int, fine: Tensor) -> Tensor:
    """Enlarged to the cells of a finer tensor, whose sides may be less than so many times its own."""
    return _enlarged(coarse, times)[..., : fine.shape[-2], : fine.shape[-1]]


def _enlarged(x: Tensor, times: int) -> Tensor:
    return x if times == 1 else functional.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


@torch.no_grad()
def recover(attacker: Attacker, seen: Observation, corrected: bool = True) -> Array:
    """The picture that an attacker makes of what it saw.

    Args:
        attacker: trained on the same tensors.
        seen: of one picture.
        corrected: with the network's part; without, it is the ridge regression's picture.

    Returns:
        float32 RGB (3, h, w) in 0..255, at the size of the network's input.
    """
    device = attacker.mean.device
    levels = {one.name: torch.from_numpy(seen.levels[one.name])[None].to(device) for one in attacker.sees}
    height, width = seen.truth.shape[1:]
    made = attacker(levels, corrected)[0, :, :height, :width].clamp(0, 1) * 255
    return np.ascontiguousarray(made.cpu().numpy(), np.float32)


# The ridge regression


class Ridge:
    """The normal equations of a linear map from a cell's channels to its pixels, summed up picture by picture.

    Args:
        sees: the tensors, finest first.
        every: take one of so many cells, in a fixed pattern: neighbours say nearly the same.
    """

    def __init__(self, sees: Sequence[TensorSpec], every: int = 4) -> None:
        self._map = Attacker(sees, correct=False)
        self._every = every
        self._count = 0
        inputs, outputs = self._map.linear.in_channels, self._map.linear.out_channels
        self._sum = np.zeros(inputs + outputs)
        self._products = np.zeros((inputs, inputs + outputs))

    def add(self, seen: Observation) -> None:
        """Take one picture in."""
        one = self._map
        levels = {name: torch.from_numpy(level)[None] for name, level in seen.levels.items()}
        inputs = one.gathered(levels)[0]
        truth = torch.from_numpy(seen.truth)[None] / 255
        truth = functional.avg_pool2d(truth, one.stride // one.side) if one.stride > one.side else truth
        rows, columns = truth.shape[2] // one.side, truth.shape[3] // one.side  # whole cells alone
        truth = functional.pixel_unshuffle(truth[..., : rows * one.side, : columns * one.side], one.side)[0]
        first = self._count % self._every  # not the same columns in every picture
        x = inputs[:, :rows, :columns].reshape(len(inputs), -1)[:, first :: self._every]
        y = truth.reshape(len(truth), -1)[:, first :: self._every]
        both = torch.cat([x, y])
        self._count += x.shape[1]
        self._sum += both.sum(1, dtype=torch.float64).numpy()
        self._products += (x @ both.T).double().numpy()

    def solve(self, penalty: float = 1e-5) -> dict[str, npt.NDArray[np.float32]]:
        """The weights of :class:`Attacker` that the linear map has.

        Args:
            penalty: of squared weights, for channels of unit variance.

        Raises:
            ModelError: there was not a single whole cell.
        """
        if not self._count:
            raise ModelError("these pictures are smaller than a cell of the tensors: nothing to learn from")
        inputs = len(self._products)
        mean, means = self._sum[:inputs] / self._count, self._sum / self._count
        covariance = self._products / self._count - np.outer(mean, means)
        variance = np.diag(covariance[:, :inputs]).clip(0)
        deviation = np.sqrt(variance)
        dead = deviation <= _LEAST * deviation.max(initial=0)
        deviation[dead] = 1.0
        normal = covariance / np.concatenate([deviation, np.ones(len(means) - inputs)])[None] / deviation[:, None]
        normal[dead] = 0.0
        square = normal[:, :inputs] + penalty * np.eye(inputs)
        weights = np.linalg.solve(square, normal[:, inputs:]).T
        return {
            "mean": mean.astype(np.float32),
            "deviation": deviation.astype(np.float32),
            "linear.weight": weights.astype(np.float32)[:, :, None, None],
            "linear.bias": means[inputs:].astype(np.float32),
        }


# The file


def encode(attacker: Attacker, origin: Origin) -> bytes:
    """A safetensors file that says what the attacker is."""
    arrays = {name: value.detach().cpu().numpy() for name, value in attacker.state_dict().items()}
    sees = [[one.name, one.channels, one.stride] for one in attacker.sees]
    facts = {"origin": json.dumps(asdict(origin)), "sees": json.dumps(sees)}
    return fitted.encode(_FORM, arrays, origin.weights, origin.model, facts)


def read(path: Path) -> tuple[Attacker, Origin]:
    """Read what :func:`encode` wrote.

    Raises:
        ModelError: it cannot be read, is damaged, or no attacker.
    """
    arrays, facts = fitted.read(path, _FORM, COMMAND)
    try:
        origin = Origin(**json.loads(facts["origin"]))
        sees = tuple(
            TensorSpec(str(name), int(channels), int(stride)) for name, channels, stride in json.loads(facts["sees"])
        )
        attacker = Attacker(sees, correct="last.weight" in arrays)
        attacker.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise ModelError(f"{path} is no attacker that `{COMMAND}` wrote: {why}") from None
    return attacker.eval(), origin
