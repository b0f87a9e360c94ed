"""A model that is quick on tiny pictures, and one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import featlink as fl
from featlink.shared.models.config import ModelConfig


@pytest.fixture(scope="session")
def model(config: ModelConfig) -> fl.Model:
    return fl.load(**vars(config))


@pytest.fixture(scope="session")
def picture(tiny: Path) -> Path:
    return tiny / "val" / "5.png"


@pytest.fixture(scope="session")
def image(picture: Path) -> npt.NDArray[np.uint8]:
    return fl.read_image(picture)


@pytest.fixture(scope="session")
def clean(model: fl.Model, image: npt.NDArray[np.uint8]) -> fl.Pyramid:
    return model.pyramid(image)
