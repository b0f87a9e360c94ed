"""A data set of tiny pictures, and a network that is quick on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fitted_basis import fitted_to
from PIL import Image
from tiny_model import TINY

from featlink.shared.models.config import ModelConfig
from featlink.sweeps.plan import SweepOptions


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Engines set how many threads the process may use; other tests want theirs back."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of 64×48 with a box each."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    truth: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    truth["categories"] = [{"id": label} for label in range(1, 91)]
    for i in (5, 2, 9, 4):
        blocks = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(folder / "val" / f"{i}.png")
        truth["images"].append({"id": i, "width": 64, "height": 48, "file_name": f"{i}.png"})
        box = {"bbox": [5, 5, 30, 25], "area": 750, "iscrowd": 0, "segmentation": [[5, 5, 35, 5, 35, 30, 5, 30]]}
        truth["annotations"].append({"id": i, "image_id": i, "category_id": 1, **box})
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    """A network that is built in a blink and finds something everywhere."""
    return ModelConfig(model=TINY, threads=1)


@pytest.fixture(scope="session")
def fitted(config: ModelConfig, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What steps need to know of the network, where the channel looks for it."""
    with fitted_to(config, tiny, tmp_path_factory.mktemp("fitted")) as folder:
        yield folder


@pytest.fixture
def options(tiny: Path, config: ModelConfig, tmp_path: Path) -> Callable[..., SweepOptions]:
    """A sweep into a folder of its own, with what the test changes about it."""
    conditions = ("quantize:bits=2", "image: gaussian_noise(sigma=20)")
    base = SweepOptions(tiny, config, conditions, tmp_path / "sweep", seeds=(0, 1))
    return lambda **changes: replace(base, **changes)
