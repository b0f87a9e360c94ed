"""Training: data are a function of the step, and an interrupted run goes on as if nothing had happened."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from waiting import wait_until

from featlink.starter.bundle import decode, load_weights
from featlink.starter.scenes import SceneConfig
from training.batches import LABELS, Crops, Scenes, Share, Stage
from training.export import average, export, load
from training.extract import extract
from training.train import Trainer, network

SMALL = Stage(
    1.0, SceneConfig("train", ((64, 64), (96, 64)), (2, 3), (20.0, 50.0), crowds=0.0), batch=2, min_sizes=(64, 80)
)


def test_batches_are_a_function_of_the_step() -> None:
    whole = list(Scenes(SMALL, range(0, 7), Share()))
    for (images, targets), (again, targets_again) in zip(whole[4:], Scenes(SMALL, range(4, 7), Share()), strict=True):
        assert torch.equal(images, again)
        for target, same in zip(targets, targets_again, strict=True):
            assert all(torch.equal(target[name], same[name]) for name in ("boxes", "labels", "masks"))
    assert {tuple(images.shape[1:]) for images, _ in whole} == {(3, 64, 64), (3, 64, 96)}


def test_every_shape_of_scene_meets_every_input_size() -> None:
    met = [(SMALL.scenes.sizes[step % 2], SMALL.min_size(step)) for step in range(4)]
    assert set(met) == {((64, 64), 64), ((64, 64), 80), ((96, 64), 64), ((96, 64), 80)}


def test_crops_are_a_function_of_the_step() -> None:
    whole = list(Crops(range(0, 5), 8, Share()))
    for (images, labels), (again, labels_again) in zip(whole[3:], Crops(range(3, 5), 8, Share()), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)
    assert {int(label) for _, labels in whole for label in labels} <= {0, *LABELS.values()}
    shares = [list(Crops(range(0, 5), 8, Share(rank, 2))) for rank in range(2)]
    assert {len(labels) for share in shares for _, labels in share} == {4}


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
    return [sys.executable, "-m", "training.train", "--out", str(out), "--steps", "2", "--crop-steps", "4"]


def checkpoint(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / "last.pt", weights_only=True)
    return state


def begun(process: subprocess.Popen[bytes], out: Path, progress: str) -> bool:
    assert process.poll() is None
    return (out / "last.pt").exists() and bool(checkpoint(out)[progress])


@pytest.mark.extended
def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    """The command itself, from the checkpoints that runs killed among the crops and among the scenes would leave."""
    straight, crops, scenes = tmp_path / "straight", tmp_path / "crops", tmp_path / "scenes"
    with subprocess.Popen([*command(straight), "--save-every", "0"]) as process:
        for killed, progress in ((crops, "crop_step"), (scenes, "step")):
            killed.mkdir()
            wait_until(partial(begun, process, straight, progress), f"the first {progress}")
            shutil.copy(straight / "last.pt", killed)
    assert process.returncode == 0
    refused = subprocess.run(command(straight), check=False, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "holds a checkpoint: go on from it with --resume" in refused.stderr
    assert 0 < checkpoint(crops)["crop_step"] < 4
    assert checkpoint(scenes)["step"] == 1
    for killed in (crops, scenes):
        subprocess.run([*command(killed), "--resume"], check=True)
        assert checkpoint(killed)["step"] == checkpoint(straight)["step"] == 2
        torch.testing.assert_close(checkpoint(killed)["network"], checkpoint(straight)["network"])
        torch.testing.assert_close(checkpoint(killed)["averaged"], checkpoint(straight)["averaged"])


@pytest.mark.slow
def test_training_goes_on_from_the_bundled_weights(tmp_path: Path) -> None:
    weights = load_weights()
    trainer = Trainer(tmp_path, 10**6, torch.device("cpu"), 1e-3, Share())
    trainer.begin(weights)
    trainer.save()
    assert str(checkpoint(tmp_path)["step"]) == weights.metadata["training_steps"]
    again, metadata = decode(export(*load(tmp_path / "last.pt")))
    assert metadata == weights.metadata
    before, after = (
        extract(
            {name: torch.from_numpy(value) for name, value in state.items()},
            trainer.averaged.state_dict(),
            list(LABELS),
        )
        for state in (weights.state, again)
    )
    for name, value in after.items():  # the pyramid's other channels may differ
        rounding = 0.05 * float(before[name].abs().max())  # of 8 bits a weight, in the pyramid of four mixed ones
        torch.testing.assert_close(value, before[name], atol=rounding, rtol=0, msg=name)


@pytest.mark.slow
def test_an_average_lies_half_way() -> None:
    torch.manual_seed(5)
    first, second = network().eval(), network().eval()
    earlier, metadata = decode(export(second, {}))
    assert metadata == {"architecture": "maskrcnn_resnet50_fpn"}
    before = {name: value.clone() for name, value in first.named_parameters() if value.ndim > 1}
    average(first, earlier)
    for name, value in before.items():
        other = second.get_parameter(name).detach()
        rounding = 0.05 * float(other.abs().max())
        torch.testing.assert_close(first.get_parameter(name), (value + other) / 2, atol=rounding, rtol=0, msg=name)


@pytest.mark.slow
def test_bundled_weights_need_more_steps_than_they_have(tmp_path: Path) -> None:
    refused = subprocess.run([*command(tmp_path), "--bundled"], check=False, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "ask for more with --steps" in refused.stderr
