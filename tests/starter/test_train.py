"""Training: data are a function of the step, and an interrupted run goes on as if nothing had happened."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

from starter import train
from starter.batches import LABELS, Scenes, Share, Stage
from starter.scenes import SceneConfig
from starter.sprites import sprites
from starter.train import Trainer

SMALL = Stage(1.0, SceneConfig("train", ((64, 64), (96, 64)), (2, 3), (20.0, 50.0), crowds=0.0), batch=2)


def test_batches_are_a_function_of_the_step() -> None:
    whole = list(Scenes(SMALL, range(0, 7), Share()))
    for (images, targets), (again, targets_again) in zip(whole[4:], Scenes(SMALL, range(4, 7), Share()), strict=True):
        assert torch.equal(images, again)
        for target, same in zip(targets, targets_again, strict=True):
            assert all(torch.equal(target[name], same[name]) for name in ("boxes", "labels", "masks"))
    assert {tuple(images.shape[1:]) for images, _ in whole} == {(3, 64, 64), (3, 64, 96)}


def test_targets_describe_the_masks() -> None:
    for images, targets in Scenes(SMALL, range(0, 6), Share()):
        assert images.dtype == torch.uint8
        for target in targets:
            assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"]) > 0
            assert set(target["labels"].tolist()) <= set(LABELS.values())
            for mask, box in zip(target["masks"].numpy(), target["boxes"].tolist(), strict=True):
                rows, columns = np.nonzero(mask)
                assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("of", [1, 2, 3])
def test_processes_share_a_batch(of: int) -> None:
    slots = [slot for rank in range(of) for slot in Share(rank, of).slots(8)]
    assert slots == list(range(8))


def stop() -> dict[str, float]:
    raise KeyboardInterrupt


@pytest.mark.skipif(
    "FEATLINK_TEST_TRAINING" not in os.environ,
    reason="FEATLINK_TEST_TRAINING is not set: training crashes some processes that ran OpenVINO before; cause unknown",
)
def test_a_resumed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "STAGES", (SMALL,))

    def trainer(folder: str) -> Trainer:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trainer(tmp_path / folder, 2, torch.device("cpu"), 1e-3, Share())

    sprites("train")  # here, or each process that composes scenes would load them
    straight = trainer("straight")
    with Progress(disable=True) as progress:
        straight.train(1e9, progress)
        interrupted = trainer("interrupted")
        step = interrupted.descend
        monkeypatch.setattr(interrupted, "descend", lambda *batch: step(*batch) if interrupted.step < 1 else stop())
        with pytest.raises(KeyboardInterrupt):
            interrupted.train(0, progress)  # saves after every step
        resumed = trainer("interrupted")
        resumed.load()
        assert resumed.step == 1
        resumed.train(1e9, progress)
    for name, value in straight.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], value, msg=name)
