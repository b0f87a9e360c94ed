"""Learn the ``bottleneck`` step: rate plus how far the heads' answers move, at all rates together. No labels.

For a link that loses packets, stripes of what is sent are dropped in training, as the channel drops and conceals them.
:class:`Training` trains :class:`Networks` on :class:`Example` pictures; :class:`Teacher` says what the heads answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from featlink.channel.codecs.base import stripe_edges
from featlink.channel.codecs.entropy import Entropy
from featlink.channel.reduction.base import ROUND
from featlink.channel.reduction.bottleneck import (
    BLOCKS,
    LEAST_GAIN,
    MOST_GAIN,
    SEEN,
    STEP,
    Layers,
    Learned,
    bands,
)
from featlink.channel.reduction.pca import Basis
from featlink.dataset import MAX_PIXELS
from featlink.fitting.checkpoint import loaded, save
from featlink.shared.errors import ModelError
from featlink.shared.features import Array
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.fast.prune import drop_dead_channels
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN
from featlink.shared.pictures import decode

STEPS = (0.6, 1.2, 2.4, 4.8, 9.6)
"""Quantisation steps at which the price of a byte is measured before training; between them it is interpolated."""
FINEST, COARSEST = 0.4, 12.0
"""Steps that are trained for."""
_HELD_OUT = 16
"""Pictures that are not trained on: they set the price, and tell how far training is."""
_BATCH = 2
_RATE, _RATE_FURTHER = 1.2e-3, 3e-4
"""Of learning, at its highest: from the beginning, and from networks that are trained already."""
_WARM_UP = 30
_SAVE_EVERY = 100
_DEPTH = 12
"""Bits that whole numbers of steps are coded from."""
_STRIPES = 4
"""That are dropped, as many as in the ``loss.*`` conditions."""


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
        examples: pictures; the last few are held out.
        rounds: steps of the optimiser in all.
        checkpoint: file to go on from if it is there, and to save to.
        device: ``cpu``, ``cuda``, …
        drop: most of the stripes' shares that are dropped, 0..1: a picture's is drawn from 0 to it.
        start: networks to begin with; default: untrained ones.

    Raises:
        ModelError: fewer than two examples, no such share, or the checkpoint or the start is of another training.
    """

    def __init__(
        self,
        teacher: Teacher,
        deviation: npt.NDArray[np.float32],
        examples: Sequence[Example],
        rounds: int,
        checkpoint: Path,
        device: str = "cpu",
        drop: float = 0,
        start: Layers | None = None,
    ) -> None:
        if len(examples) < 2:
            raise ModelError("the detector finds something in fewer than two of these pictures: nothing to learn from")
        if not 0 <= drop <= 1:
            raise ModelError(f"drop={drop:g} is no share from 0 to 1")
        self.drop, self._start = drop, start
        held_out = min(_HELD_OUT, len(examples) // 2)
        self.taught, self.held_out = examples[:-held_out], examples[-held_out:]
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
            if self._start is not None:
                self._begin_with(self._start)
        fastest = _RATE if self._start is None else _RATE_FURTHER
        prices = self._prices(self.untrained)
        while self.round < self.rounds:
            rng, losses = np.random.default_rng((0, self.round)), np.random.default_rng((2, self.round))
            for group in self.optimiser.param_groups:
                warm = min(1.0, (self.round + 1) / _WARM_UP)
                group["lr"] = fastest * warm * (0.5 + 0.5 * math.cos(math.pi * self.round / self.rounds)) + 1e-6
            self.optimiser.zero_grad()
            for _ in range(_BATCH):
                example = self.taught[int(rng.integers(len(self.taught)))]
                step = float(np.exp(rng.uniform(math.log(FINEST), math.log(COARSEST))))
                price, usual = prices(step)
                far, whole, _ = self._far(example, step, rng, self.drop * losses.random(), losses)
                ((far + price * bits_of(whole) / 8) / usual / _BATCH).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
            self.optimiser.step()
            self.round += 1
            if self.round % _SAVE_EVERY == 0 or self.round == self.rounds:
                self._save()
            done(self.round)

    @torch.no_grad()
    def measure(self, lost: float = 0) -> Progress:
        """How far the answers are, and how many bytes are coded, over the held-out pictures.

        Args:
            lost: share of their stripes, 0..1.
        """
        far, size = dict.fromkeys(STEPS, 0.0), dict.fromkeys(STEPS, 0.0)
        for step in STEPS:
            for number, example in enumerate(self.held_out):
                rng, losses = np.random.default_rng((1, number)), np.random.default_rng((3, number))
                found, _, rounded = self._far(example, step, rng, lost, losses)
                half = 1 << (_DEPTH - 1)
                samples = (rounded.cpu().numpy().clip(-half, half - 1) + half).astype(np.uint16)
                far[step] += float(found) / len(self.held_out)
                size[step] += len(Entropy().encode(samples, _DEPTH)) / len(self.held_out)
        return Progress(far, size)

    def learned(self, basis: Basis) -> Learned:
        """What the step needs."""
        return Learned(basis, self.networks.layers(), self.drop)

    def _far(
        self, example: Example, step: float, rng: np.random.Generator, lost: float, losses: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Distance of the answers; what was sent, before it was rounded and after."""
        clean = example.components.to(self.device).float()
        boxes, labels = (x.to(self.device) for x in example.regions(rng))
        with torch.no_grad():
            wanted: Answers = self.teacher.answers(clean, example.resized, boxes, labels)
        whole, rounded = self.networks.send(clean, step)
        kept = torch.from_numpy(kept_rows(rounded.shape[1], lost, losses)).to(rounded)[:, None]
        received = self.networks.receive(rounded * kept, step)
        return distance(self.teacher.answers(received, example.resized, boxes, labels), wanted), whole, rounded

    def _begin_with(self, layers: Layers) -> None:
        try:
            self.networks.load_state_dict({name: torch.from_numpy(layer) for name, layer in layers.items()})
        except RuntimeError as error:
            raise ModelError(f"networks to begin with do not fit: {str(error).splitlines()[-1].strip()}") from None

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
            "drop": self.drop,
            "deviation": self.networks.deviation,
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "untrained": None if start is None else [start.distance, start.size],
        }
        save(self.checkpoint, state)

    def _load(self) -> None:
        with loaded(self.checkpoint, self.device) as state:
            if not torch.equal(state["deviation"], self.networks.deviation):
                raise ValueError("it has another basis")
            if state.get("drop", 0) != self.drop:
                raise ValueError(f"it dropped {state.get('drop', 0):g}, not {self.drop:g}")
            self.networks.load_state_dict(state["networks"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.round = int(state["round"])
            self.untrained = None if state["untrained"] is None else Progress(*state["untrained"])


def kept_rows(height: int, lost: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Rows of the stripes that arrive, one of them at least: of a picture that is lost whole, nothing is refined.

    Args:
        height: rows.
        lost: probability of a stripe's loss, 0..1.
        rng: one number is drawn for each stripe, and one for that which arrives in any case.

    Returns:
        (height,), false where the channel's ``conceal=zero`` puts zeros.
    """
    edges = stripe_edges(height, _STRIPES)
    arrives = rng.random(len(edges) - 1) >= lost
    last = int(rng.integers(len(arrives)))
    arrives[last] |= not arrives.any()
    return np.repeat(arrives, np.diff(edges))


# What is trained on: components of pictures, and where the detector finds something.

_FOUND = 0.08
"""Score from which a detection counts: the unsure ones must stay unsure."""
_MOST = 30
"""Detections of a picture, and regions beside them."""
_BESIDE = 0.15
"""How far those are off, in sides of the box."""


@dataclass(frozen=True)
class Example:
    """One picture.

    Attributes:
        components: float16 (K, h, w), clean.
        resized: (height, width) of the network's input.
        boxes: (N, 4) of what was found in the clean picture, in pixels of the input; N ≥ 1.
        labels: (N,) of them.
    """

    components: Tensor
    resized: tuple[int, int]
    boxes: Tensor
    labels: Tensor

    def regions(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The boxes, then as many as ``_MOST`` beside them, with the labels that they are near to."""
        chosen = rng.integers(0, len(self.boxes), _MOST)
        near = self.boxes[chosen]
        sides = (near[:, 2:] - near[:, :2]).repeat(1, 2)
        moved = near + sides * torch.from_numpy(rng.normal(0, _BESIDE, tuple(near.shape)).astype(np.float32))
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 4)
        return torch.cat([self.boxes, moved]), torch.cat([self.labels, self.labels[chosen]])


def examples_of(model: SplitModel, basis: Basis, pictures: Sequence[Path], done: Callable[[], None]) -> list[Example]:
    """Examples of the pictures in which the detector finds something.

    Args:
        model: with heads.
        basis: fitted to it.
        pictures: files.
        done: called after each.

    Raises:
        ImageError: a file is not a picture.
    """
    found = []
    for path in pictures:
        pyramid = model.encode(decode(path.read_bytes(), MAX_PIXELS))
        detections = model.decode(pyramid)
        sure = detections.scores > _FOUND
        if sure.any():
            (height, width), (full_height, full_width) = pyramid.sizes.resized, pyramid.sizes.original
            scale = np.array([width / full_width, height / full_height] * 2, np.float32)
            found.append(
                Example(
                    torch.from_numpy(basis.analyse(pyramid.levels, len(basis.deviation)).astype(np.float16)),
                    (height, width),
                    torch.from_numpy((detections.boxes * scale)[sure][:_MOST].astype(np.float32)),
                    torch.from_numpy(detections.labels[sure][:_MOST].astype(np.int64)),
                )
            )
        done()
    return found


# The networks, as the step has them, in torch.

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
        gains: Tensor = self.gains[3](hidden)[0].clamp(LEAST_GAIN, MOST_GAIN).exp()[self.band]
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
        """The weights as the step takes them."""
        return {name: np.ascontiguousarray(value.detach().cpu().numpy()) for name, value in self.state_dict().items()}


def bits_of(whole: Tensor) -> Tensor:
    """About how many bits values cost when they are rounded and coded, smooth enough to learn from."""
    return 1.3 * torch.log2(1 + 3 * whole * whole).sum()


def _with_step(x: Tensor, step: float) -> Tensor:
    return torch.cat([x, torch.full_like(x[:1], math.log(step / STEP))])[None]


# The teacher: how far are the heads' answers to what was received from those to what was sent?

_MASKS = 24
"""Regions whose masks are compared: they cost the most."""
_OBJECTNESS, _PROPOSALS, _MASK = 0.015, 0.05, 4.0
"""What the RPN's errors weigh, summed over all places and divided by the regions, and a mask's, against the rest."""


@dataclass(frozen=True)
class Answers:
    """What the heads say: class and mask as logits.

    Attributes:
        classes: (N, labels); None for a network that has no regions.
        boxes: (N, 4), offsets for the label that is asked for; None likewise.
        masks: (M, 28, 28) for that label, M ≤ N; None for a network without masks.
        objects: by level, (1, A, H, W); without regions, one of (1, places, labels).
        proposals: by level, (1, 4·A, H, W); without regions, one of (1, places, 4).
    """

    classes: Tensor | None
    boxes: Tensor | None
    masks: Tensor | None
    objects: list[Tensor]
    proposals: list[Tensor]


class Teacher(nn.Module):
    """A network's rest that is not trained, but that errors pass through.

    Args:
        config: the network.
        basis: from components to its levels.

    Raises:
        ModelError: its heads' answers are not known.
    """

    group: Tensor
    cell: Tensor
    classes: Tensor

    def __init__(self, config: ModelConfig, basis: Basis) -> None:
        super().__init__()
        model: Any = build(config.but(profile="exact", device="cpu"))
        network: Any = getattr(model, "network", None)
        self.is_dense = hasattr(network, "head")  # one-stage: RetinaNet, FCOS
        if not (hasattr(model, "back") and (self.is_dense or hasattr(network, "roi_heads"))):
            raise ModelError(
                f"cannot fit to {model.name}: bottleneck learns from what heads answer, which is known of detectors of "
                "torchvision and detectron2 alone; take pca"
            )
        self.spec, self.back = model.spec, model.back
        if isinstance(model, TorchvisionRCNN):
            drop_dead_channels(network, model.split)
        self.network, self.basis = network, basis
        self.requires_grad_(False)
        ids = getattr(model, "ids", range(len(model.categories)))
        self.register_buffer("classes", torch.zeros(max(ids) + 1, dtype=torch.int64))
        self.classes[list(ids)] = torch.arange(len(ids))
        for name, array in {"group": basis.group, "cell": basis.cell}.items():
            self.register_buffer(name, torch.from_numpy(array))
        for name in basis.grid.strides:
            self.register_buffer(f"inverse_{name}", torch.from_numpy(basis.inverse[name] / basis.worth[name]))
            self.register_buffer(f"mean_{name}", torch.from_numpy(basis.inverse[name] @ basis.mean[name]))

    def levels(self, components: Tensor) -> dict[str, Tensor]:
        """Components (K, h, w) to what crosses the link, (C, H, W) each, as :meth:`Basis.synthesise` has them."""
        count, h, w = components.shape
        groups = (self.group[:, :count] @ components.reshape(count, -1)).reshape(-1, 2, 2, h, w)
        cells = (self.cell @ groups.permute(0, 3, 1, 4, 2).reshape(len(groups), -1)).reshape(-1, 2 * h, 2 * w)
        found: dict[str, Tensor] = {}
        grid, at = self.basis.grid, 0
        for name in grid.strides:
            side, repeats, width = grid.side(name), grid.repeats(name), len(self.basis.mean[name])
            part, at = cells[at : at + width * side**2], at + width * side**2
            if repeats > 1:
                level = functional.pad(part[None], (0, -2 * w % repeats, 0, -2 * h % repeats), mode="replicate")[0]
                level = functional.avg_pool2d(level, repeats) * repeats
            else:
                level = functional.pixel_shuffle(part, side)
            inverse, mean = getattr(self, f"inverse_{name}"), getattr(self, f"mean_{name}")
            found[name] = (inverse @ level.reshape(width, -1)).reshape(-1, *level.shape[1:]) + mean[:, None, None]
        for tensor in self.spec.tensors:
            if tensor.source is not None:
                step = tensor.stride // self.spec[tensor.source].stride
                found[tensor.name] = found[tensor.source][:, ::step, ::step]
        return found

    def answers(self, components: Tensor, resized: tuple[int, int], boxes: Tensor, labels: Tensor) -> Answers:
        """What the heads say of regions, and of all places."""
        found = self.levels(components)
        levels = self.back(*(found[name][None] for name in self.spec.names))
        if self.is_dense:
            said = self.network.head(list(levels.values()))
            return Answers(None, None, None, [said["cls_logits"]], [said["bbox_regression"]])
        heads, labels = self.network.roi_heads, self.classes[labels]
        rows = torch.arange(len(boxes), device=boxes.device)
        objects, proposals = self.network.rpn.head(list(levels.values()))
        classes, offsets = heads.box_predictor(heads.box_head(heads.box_roi_pool(levels, [boxes], [resized])))
        masks = None
        if heads.mask_head is not None:
            seen = heads.mask_roi_pool(levels, [boxes[:_MASKS]], [resized])
            masks = heads.mask_predictor(heads.mask_head(seen))[rows[:_MASKS], labels[:_MASKS]]
        return Answers(classes, offsets.reshape(len(boxes), -1, 4)[rows, labels], masks, objects, proposals)


def distance(given: Answers, clean: Answers) -> Tensor:
    """How far answers are from those to clean features: divergences of probabilities, and offsets where it matters.

    A scalar, 0 for equal answers.
    """
    if given.classes is None or clean.classes is None or given.boxes is None or clean.boxes is None:
        return _dense_distance(given, clean)
    probable = clean.classes.softmax(1)
    classes = functional.kl_div(given.classes.log_softmax(1), probable, reduction="batchmean")
    object_ = 1 - probable[:, 0]
    boxes = functional.smooth_l1_loss(given.boxes, clean.boxes, beta=0.5, reduction="none").sum(1) @ object_
    total = classes + boxes / len(object_)
    if given.masks is not None and clean.masks is not None:
        masks = _divergence(given.masks, clean.masks).mean((1, 2)) @ object_[: len(given.masks)]
        total = total + _MASK * masks / len(given.masks)
    regions = len(object_) / 2
    for got, wanted, moved, expected in zip(
        given.objects, clean.objects, given.proposals, clean.proposals, strict=True
    ):
        total = total + _OBJECTNESS * _divergence(got, wanted).sum() / regions
        errors = functional.smooth_l1_loss(moved, expected, beta=0.3, reduction="none")[0]
        errors = errors.reshape(-1, 4, *errors.shape[1:]).sum(1)
        total = total + _PROPOSALS * (wanted[0].sigmoid() * errors).sum() / regions
    return total


def _dense_distance(given: Answers, clean: Answers) -> Tensor:
    """Of a network without regions: every place counts, its box as much as something is there."""
    [got], [wanted], [moved], [expected] = given.objects, clean.objects, given.proposals, clean.proposals
    sure = wanted.sigmoid().amax(-1)
    errors = functional.smooth_l1_loss(moved, expected, beta=0.3, reduction="none").sum(-1)
    return (_divergence(got, wanted).sum() + (sure * errors).sum()) / (1 + sure.sum())


def _divergence(given: Tensor, clean: Tensor) -> Tensor:
    """Of two-way probabilities, from logits."""
    wanted = clean.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(given, wanted, reduction="none")
    return cross - functional.binary_cross_entropy_with_logits(clean, wanted, reduction="none")
