"""Training data: scenes with their targets, and crops, as functions of the step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from featlink.starter.draws import Draws
from featlink.starter.scenes import Mask, Scene, SceneConfig, scene
from featlink.starter.styles import CATEGORIES

LABELS = {category: label for label, category in enumerate(sorted(CATEGORIES), 1)}
"""COCO category id → the narrow network's own label."""

SEEDS = 10**9
"""First seed of training scenes; those of validation are below."""


CROPS = SceneConfig("train", ((64, 64),), (1, 1), (28.0, 72.0), crowds=0.0, recolour=0.15)
"""What crops are like."""
_FRESH = 2
"""One scene in this many of a batch is new, the others were seen before: composing them costs as much as training."""
_MEMORY = 64
"""How many steps back a scene may be shown again."""

_Made = TypeVar("_Made")

Target = dict[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """A part of the schedule.

    Attributes:
        share: of all steps.
        scenes: what they are like.
        batch: scenes per step.
        min_sizes: shorter sides that scenes are resized to, in turn.
    """

    share: float
    scenes: SceneConfig
    batch: int
    min_sizes: tuple[int, ...]

    def min_size(self, step: int) -> int:
        """Shorter side at the network's input in one step; every shape of scene meets every one."""
        return self.min_sizes[step // len(self.scenes.sizes) % len(self.min_sizes)]


@dataclass(frozen=True)
class Share:
    """Which of several processes this is.

    Attributes:
        rank: 0 for the first.
        of: how many there are.
    """

    rank: int = 0
    of: int = 1

    def slots(self, batch: int) -> range:
        """This process's items of a batch."""
        return range(batch * self.rank // self.of, batch * (self.rank + 1) // self.of)


class Scenes(IterableDataset[tuple[Tensor, list[Target]]]):
    """Batches of one stage as a function of the step.

    Args:
        stage: of the schedule.
        steps: first step, and the one behind the last.
        share: this process's part of each batch.
    """

    def __init__(self, stage: Stage, steps: range, share: Share) -> None:
        self.stage = stage
        self.steps = steps
        self.share = share

    def __iter__(self) -> Iterator[tuple[Tensor, list[Target]]]:
        period = len(self.stage.scenes.sizes)
        for picked in _replayed(self._scene, self.steps, self.stage.batch, self.share, period):
            images, targets = zip(*(_example(one, mirrored) for one, mirrored in picked), strict=True)
            yield torch.stack(images), list(targets)

    def _scene(self, step: int, slot: int) -> Scene:
        config = self.stage.scenes
        size = config.sizes[step % len(config.sizes)]  # one size a batch
        return scene(SEEDS + step * 64 + slot, replace(config, sizes=(size,)))


def _example(one: Scene, mirrored: bool) -> tuple[Tensor, Target]:
    image, owner = one.image, one.owner
    if mirrored:
        image, owner = image[:, ::-1], owner[:, ::-1]
    masks = np.stack([owner == number + 1 for number in range(len(one.objects))] or [np.zeros(owner.shape, bool)])
    boxes = [_box(mask) for mask in masks] if one.objects else []
    return (
        torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1),
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([LABELS[thing.category_id] for thing in one.objects], dtype=torch.int64),
            "masks": torch.from_numpy(masks[: len(boxes)].astype(np.uint8)),
        },
    )


def _box(mask: Mask) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


class Crops(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of single sprites with their label, 0 where none was placed.

    A function of the step.

    Args:
        steps: first step, and the one behind the last.
        batch: crops in each.
        share: this process's part of each batch.
    """

    def __init__(self, steps: range, batch: int, share: Share) -> None:
        self.steps = steps
        self.batch = batch
        self.share = share

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for picked in _replayed(self._crop, self.steps, self.batch, self.share):
            images = np.stack([crop.image[:, :: -1 if mirrored else 1] for crop, mirrored in picked])
            labels = [LABELS[crop.objects[0].category_id] if crop.objects else 0 for crop, _ in picked]
            yield torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels)

    def _crop(self, step: int, slot: int) -> Scene:
        return scene(2 * SEEDS + step * self.batch + slot, CROPS)


def _replayed(
    make: Callable[[int, int], _Made], steps: range, batch: int, share: Share, period: int = 1
) -> Iterator[list[tuple[_Made, bool]]]:
    """This process's part of each batch: what ``make`` gives for a step and a slot, and whether to mirror it.

    Slots that are not fresh show again what a fresh one showed a multiple of ``period`` steps before.
    """
    cv2.setNumThreads(1)
    make = functools.lru_cache(2 * _MEMORY * batch)(make)
    for step in steps:
        draws = Draws((SEEDS + step) * 64 + share.rank)
        picked = []
        for slot in share.slots(batch):
            age = min(draws.integer(0, _MEMORY), step // period) * period if slot % _FRESH else 0
            fresh = slot if age == 0 else slot // _FRESH * _FRESH
            picked.append((make(step - age, fresh), draws.chance(0.5)))
        yield picked


def loader(data: IterableDataset[Any]) -> DataLoader[Any]:
    """Batches made in a process of their own, ahead of the training."""
    # A fork of a process whose libraries have threads may crash.
    return DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=6, multiprocessing_context="spawn")
