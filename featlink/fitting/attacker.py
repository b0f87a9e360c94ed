"""Train attackers: the ridge regression in one pass over the pictures, the network on crops of them. No labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from featlink.attacking.attacker import Attacker, Ridge
from featlink.attacking.observing import Observation, Tap, tensors
from featlink.fitting.checkpoint import loaded, save
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import ModelError
from featlink.shared.features import TensorSpec
from featlink.shared.models.protocol import SplitModel

_SIDE = 128
"""Pixels a side of a crop, or the coarsest tensor's stride if that is larger."""
_CROPS = 2
"""Of each picture."""
_BATCH = 4
_RATE = 1e-3
_WARM_UP = 20
_SAVE_EVERY = 50


@dataclass
class Lesson:
    """What pictures have taught an attacker on one condition before its training.

    Attributes:
        sees: the tensors that it takes.
        ridge: the normal equations.
        crops: float16 tensors of a place, over ``scales``, and its pixels, float32 (3, h, w) in 0..1.
        scales: by tensor, what keeps crops within float16: the first picture's largest magnitude.
        pictures: how many there were.
    """

    sees: tuple[TensorSpec, ...]
    ridge: Ridge
    crops: list[tuple[dict[str, Tensor], Tensor]] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)
    pictures: int = 0

    @classmethod
    def on(cls, sees: tuple[TensorSpec, ...]) -> Lesson:
        """Nothing learned yet."""
        return cls(sees, Ridge(sees))

    def add(self, seen: Observation, crops: int) -> None:
        """Take a picture in, and cut some crops out of it."""
        self.ridge.add(seen)
        for one in self.sees:
            self.scales.setdefault(one.name, float(np.abs(seen.levels[one.name]).max()) or 1.0)
        rng = np.random.default_rng((2, self.pictures))
        self.pictures += 1
        for _ in range(crops):
            if (crop := self._crop(seen, rng)) is not None:
                self.crops.append(crop)

    def _crop(self, seen: Observation, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor] | None:
        """A square at a place of the coarsest tensor's grid; None where the picture has no room for one."""
        coarsest = self.sees[-1].stride
        side = max(_SIDE, coarsest) // coarsest
        rows, columns = (extent // coarsest for extent in seen.truth.shape[1:])
        high, wide = min(side, rows), min(side, columns)
        if not high or not wide:
            return None
        top, left = (int(rng.integers(room + 1)) * coarsest for room in (rows - high, columns - wide))

        def cut(stride: int) -> tuple[slice, slice]:
            spans = ((top, high), (left, wide))
            a, b = (slice(start // stride, (start + count * coarsest) // stride) for start, count in spans)
            return a, b

        levels = {
            one.name: torch.from_numpy(seen.levels[one.name][:, *cut(one.stride)] / self.scales[one.name]).half()
            for one in self.sees
        }
        return levels, torch.from_numpy(np.ascontiguousarray(seen.truth[:, *cut(1)])) / 255


def listen(
    model: SplitModel,
    pictures: Iterable[bytes],
    conditions: Sequence[Condition],
    levels: Sequence[str],
    crops: bool,
    done: Callable[[], None],
) -> list[Lesson]:
    """Send pictures through conditions, and keep what an attacker on each learns from.

    Args:
        model: its backbone half is enough.
        pictures: files' bytes.
        conditions: one attacker each; the backbone runs once for all of them.
        levels: what the attackers look at; none for all that are not derived of others.
        crops: keep crops for networks; ridge regressions need none.
        done: called after each picture.

    Raises:
        FeatlinkError: a file is no picture, or the channel fails.
    """
    lessons = [
        Lesson.on(tensors(model.spec, one.domain, levels if one.domain == "feature" else ())) for one in conditions
    ]
    for data in pictures:
        tap = Tap(model, data)
        for lesson, condition in zip(lessons, conditions, strict=True):
            lesson.add(tap.observe(condition), _CROPS if crops else 0)
        done()
    return lessons


class Training:
    """A training of the network on top of the ridge regression; it goes on from its checkpoint.

    Args:
        lesson: of the pictures.
        rounds: steps of the optimiser in all; 0 leaves the ridge regression alone.
        seed: of first weights and of the order of crops.
        checkpoint: file to go on from if it is there, and to save to.
        device: ``cpu``, ``cuda``, …

    Raises:
        ModelError: the pictures are too small, or the checkpoint is of another training.
    """

    def __init__(self, lesson: Lesson, rounds: int, seed: int, checkpoint: Path, device: str = "cpu") -> None:
        if rounds and not lesson.crops:
            raise ModelError("these pictures are smaller than a cell of the tensors: nothing to learn from")
        self.lesson, self.rounds, self.seed, self.checkpoint, self.device = lesson, rounds, seed, checkpoint, device
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.attacker = Attacker(lesson.sees, correct=rounds > 0)
        solved = {name: torch.from_numpy(array) for name, array in lesson.ridge.solve().items()}
        self.attacker.load_state_dict(solved, strict=False)
        for linear in self.attacker.linear.parameters():  # the network corrects it, and it stays the ridge regression
            linear.requires_grad_(False)
        self.attacker.to(device)
        learned = [one for one in self.attacker.parameters() if one.requires_grad]
        self.optimiser = torch.optim.Adam(learned, _RATE) if learned else None
        self.round = 0
        if rounds and checkpoint.is_file():
            self._load()

    def run(self, done: Callable[[int], None]) -> Attacker:
        """Train to the end.

        Args:
            done: called with the number of rounds so far after each.
        """
        optimiser = self.optimiser
        while optimiser is not None and self.round < self.rounds:
            rng = np.random.default_rng((self.seed, self.round))
            for group in optimiser.param_groups:
                warm = min(1.0, (self.round + 1) / _WARM_UP)
                group["lr"] = _RATE * warm * (0.5 + 0.5 * math.cos(math.pi * self.round / self.rounds)) + 1e-6
            optimiser.zero_grad()
            for place in rng.integers(len(self.lesson.crops), size=_BATCH):
                levels, truth = self.lesson.crops[int(place)]
                scaled = {
                    name: level.to(self.device).float()[None] * self.lesson.scales[name]
                    for name, level in levels.items()
                }
                wrong = functional.mse_loss(self.attacker(scaled)[0], truth.to(self.device))
                (wrong / _BATCH).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.attacker.parameters(), 1.0)
            optimiser.step()
            self.round += 1
            if self.round % _SAVE_EVERY == 0:
                self._save()
            done(self.round)
        return self.attacker.eval()

    def _save(self) -> None:
        if self.optimiser is not None:
            state = {"attacker": self.attacker.state_dict(), "optimiser": self.optimiser.state_dict()}
            save(self.checkpoint, {"round": self.round, **state})

    def _load(self) -> None:
        with loaded(self.checkpoint, self.device) as state:
            if not torch.allclose(state["attacker"]["linear.weight"], self.attacker.linear.weight, atol=1e-4):
                raise ValueError("it learned from other pictures or another condition")
            self.attacker.load_state_dict(state["attacker"])
            if self.optimiser is not None:
                self.optimiser.load_state_dict(state["optimiser"])
            self.round = int(state["round"])
