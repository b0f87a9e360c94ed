"""Learn the ``bottleneck`` step: rate plus how far the heads' answers move, at all rates together. No labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featlink.channel.codecs.entropy import Entropy
from featlink.channel.reduction.basis import Basis
from featlink.channel.reduction.learned import Learned
from featlink.fitting.lessons import Lesson
from featlink.fitting.networks import Networks, bits_of
from featlink.fitting.teacher import Answers, Teacher, distance
from featlink.shared.errors import ModelError

STEPS = (0.6, 1.2, 2.4, 4.8, 9.6)
"""Quantisation steps at which the price of a byte is measured before training; between them it is interpolated."""
FINEST, COARSEST = 0.4, 12.0
"""Steps that are trained for."""
_HELD_OUT = 16
"""Pictures that are not trained on: they set the price, and tell how far training is."""
_BATCH = 2
_RATE = 1.2e-3
_WARM_UP = 30
_SAVE_EVERY = 100
_DEPTH = 12
"""Bits that whole numbers of steps are coded from."""


@dataclass(frozen=True)
class Progress:
    """Where the networks are, over the held-out pictures.

    Attributes:
        distance: of the heads' answers by step, mean.
        size: bytes of a picture by step, mean.
    """

    distance: dict[float, float]
    size: dict[float, float]


class Training:
    """A training that can be stopped at any time and goes on from its checkpoint.

    Args:
        teacher: of the network.
        deviation: (K,) of the basis' components.
        lessons: pictures; the last few are held out.
        rounds: steps of the optimiser in all.
        checkpoint: file to go on from if it is there, and to save to.
        device: ``cpu``, ``cuda``, …

    Raises:
        ModelError: fewer than two lessons, or the checkpoint is of another training.
    """

    def __init__(
        self,
        teacher: Teacher,
        deviation: npt.NDArray[np.float32],
        lessons: Sequence[Lesson],
        rounds: int,
        checkpoint: Path,
        device: str = "cpu",
    ) -> None:
        if len(lessons) < 2:
            raise ModelError("the detector finds something in fewer than two of these pictures: nothing to learn from")
        held_out = min(_HELD_OUT, len(lessons) // 2)
        self.taught, self.held_out = lessons[:-held_out], lessons[-held_out:]
        self.rounds, self.checkpoint, self.device = rounds, checkpoint, device
        self.teacher = teacher.to(device)
        torch.manual_seed(0)
        self.networks = Networks(deviation).to(device)
        self.optimiser = torch.optim.Adam(self.networks.parameters(), _RATE)
        self.round = 0
        self.untrained: Progress | None = None
        if checkpoint.is_file():
            self._load()

    def run(self, done: Callable[[int], None]) -> None:
        """Train to the end.

        Args:
            done: called with the number of rounds so far after each.
        """
        if self.untrained is None:
            self.untrained = self.measure()
        prices = self._prices(self.untrained)
        while self.round < self.rounds:
            rng = np.random.default_rng((0, self.round))
            for group in self.optimiser.param_groups:
                warm = min(1.0, (self.round + 1) / _WARM_UP)
                group["lr"] = _RATE * warm * (0.5 + 0.5 * math.cos(math.pi * self.round / self.rounds)) + 1e-6
            self.optimiser.zero_grad()
            for _ in range(_BATCH):
                lesson = self.taught[int(rng.integers(len(self.taught)))]
                step = float(np.exp(rng.uniform(math.log(FINEST), math.log(COARSEST))))
                price, usual = prices(step)
                far, whole, _ = self._far(lesson, step, rng)
                ((far + price * bits_of(whole) / 8) / usual / _BATCH).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
            self.optimiser.step()
            self.round += 1
            if self.round % _SAVE_EVERY == 0 or self.round == self.rounds:
                self._save()
            done(self.round)

    @torch.no_grad()
    def measure(self) -> Progress:
        """How far the answers are, and how many bytes are coded, over the held-out pictures."""
        far, size = dict.fromkeys(STEPS, 0.0), dict.fromkeys(STEPS, 0.0)
        for step in STEPS:
            for number, lesson in enumerate(self.held_out):
                found, _, rounded = self._far(lesson, step, np.random.default_rng((1, number)))
                half = 1 << (_DEPTH - 1)
                samples = (rounded.cpu().numpy().clip(-half, half - 1) + half).astype(np.uint16)
                far[step] += float(found) / len(self.held_out)
                size[step] += len(Entropy().encode(samples, _DEPTH)) / len(self.held_out)
        return Progress(far, size)

    def learned(self, basis: Basis) -> Learned:
        """What the step needs."""
        return Learned(basis, self.networks.layers())

    def _far(self, lesson: Lesson, step: float, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Distance of the answers; what was sent, before it was rounded and after."""
        clean = lesson.components.to(self.device).float()
        boxes, labels = (x.to(self.device) for x in lesson.regions(rng))
        with torch.no_grad():
            wanted: Answers = self.teacher.answers(clean, lesson.resized, boxes, labels)
        whole, rounded = self.networks.send(clean, step)
        received = self.networks.receive(rounded, step)
        return distance(self.teacher.answers(received, lesson.resized, boxes, labels), wanted), whole, rounded

    @staticmethod
    def _prices(start: Progress) -> Callable[[float], tuple[float, float]]:
        """Price of a byte, the slope of distance over size before training, and the usual distance, for any step."""
        places = np.log(STEPS)
        far, size = (np.array([figures[step] for step in STEPS]) for figures in (start.distance, start.size))
        slopes = np.maximum(np.gradient(far) / -np.gradient(size), 1e-9)
        usual = np.maximum(far, 1e-6)

        def at(step: float) -> tuple[float, float]:
            place = math.log(step)
            return math.exp(np.interp(place, places, np.log(slopes))), float(np.interp(place, places, usual))

        return at

    def _save(self) -> None:
        start = self.untrained
        state = {
            "round": self.round,
            "deviation": self.networks.deviation,
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "untrained": None if start is None else [start.distance, start.size],
        }
        part = self.checkpoint.with_name(self.checkpoint.name + ".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def _load(self) -> None:
        try:
            state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
            if not torch.equal(state["deviation"], self.networks.deviation):
                raise ValueError("it has another basis")
            self.networks.load_state_dict(state["networks"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.round = int(state["round"])
            self.untrained = None if state["untrained"] is None else Progress(*state["untrained"])
        except Exception as error:  # torch says so in many ways
            why = str(error).splitlines()[0]
            raise ModelError(f"{self.checkpoint} is not a checkpoint of this training: {why}") from None
