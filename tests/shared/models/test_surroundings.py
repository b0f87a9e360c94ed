"""A model in a program that has threads, or has changed torch's defaults."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import featlink as fl
from featlink.shared.errors import ModelError
from featlink.shared.features import Image

pytestmark = pytest.mark.slow  # of the real networks

SMALL = {"min_size": 160, "max_size": 240, "threads": 1}


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """Of several sizes."""
    files = list(fl.open_dataset("starter").images.values())[:3]
    return [np.ascontiguousarray(fl.read_image(path)[:side]) for path, side in zip(files, (320, 240, 160), strict=True)]


@pytest.fixture(scope="module")
def model() -> fl.Model:
    return fl.load("starter", **SMALL)  # type: ignore[arg-type]


def test_one_model_in_many_threads(model: fl.Model, pictures: list[Image]) -> None:
    expected = [model.detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(model.detect, pictures * 6))
    for i, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.scores, expected[i % 3].scores)
        np.testing.assert_array_equal(answer.boxes, expected[i % 3].boxes)


def test_two_are_loaded_at_once() -> None:
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(lambda _: fl.load("starter", **SMALL), range(2)))  # type: ignore[arg-type]
    assert loaded[0].split.weights == loaded[1].split.weights


@pytest.fixture
def defaults() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda: torch.set_default_dtype(torch.float64), "default dtype is torch.float64"),
        (lambda: torch.set_default_dtype(torch.bfloat16), "default dtype is torch.bfloat16"),
        (lambda: torch.set_default_device("meta"), "default device is meta"),
    ],
)
def test_changed_defaults_are_told(
    model: fl.Model, pictures: list[Image], defaults: None, change: Callable[[], None], reason: str
) -> None:
    change()
    with pytest.raises(ModelError, match=reason):
        model.detect(pictures[0])
    with pytest.raises(ModelError, match=reason):
        fl.load("starter")


def test_autocast_changes_nothing(model: fl.Model, pictures: list[Image]) -> None:
    expected = model.detect(pictures[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loaded = fl.load("starter", **SMALL)  # type: ignore[arg-type]
        for one in (model, loaded):
            np.testing.assert_array_equal(one.detect(pictures[0]).scores, expected.scores)


def test_a_processor_that_openvino_cannot_use_is_told() -> None:
    code = "import featlink as fl; fl.load('starter', threads=1)"
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "SSE41"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stderr.strip().splitlines()[-1].startswith("featlink.shared.errors.ModelError: profile: this CPU cannot")
