"""Training: data are a function of the step, and an interrupted run goes on as if nothing had happened."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from starter.batches import LABELS, Scenes, Share, Stage
from starter.scenes import SceneConfig

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


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "starter.train", "--out", str(out), "--steps", "2", "--crop-steps", "1"]


def checkpoint(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / "last.pt", weights_only=True)
    return state


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    """The command itself, from the checkpoint that a run killed after its first step would have left."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    resumed.mkdir()
    with subprocess.Popen([*command(straight), "--save-every", "0"]) as process:
        while not ((straight / "last.pt").exists() and checkpoint(straight)["step"] == 1):
            assert process.poll() is None
            time.sleep(0.02)
        shutil.copy(straight / "last.pt", resumed)
    assert process.returncode == 0
    assert checkpoint(resumed)["step"] == 1
    subprocess.run([*command(resumed), "--resume"], check=True)
    assert checkpoint(resumed)["step"] == checkpoint(straight)["step"] == 2
    torch.testing.assert_close(checkpoint(resumed)["network"], checkpoint(straight)["network"])
    torch.testing.assert_close(checkpoint(resumed)["averaged"], checkpoint(straight)["averaged"])
