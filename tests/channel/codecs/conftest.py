"""Content and programs for the codec tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

Program = Callable[[str], str]


@pytest.fixture
def natural() -> Callable[..., npt.NDArray[np.uint16]]:
    """Make a plane with the falling spectrum of natural images: noise, blurred at several scales."""

    def make(height: int, width: int, bit_depth: int = 8, seed: int = 0) -> npt.NDArray[np.uint16]:
        rng = np.random.default_rng(seed)
        plane = sum(scale * cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), scale) for scale in (1, 2, 4, 8))
        unit = (plane - plane.min()) / (plane.max() - plane.min())
        dtype = np.uint8 if bit_depth == 8 else np.uint16
        return np.rint(unit * (2**bit_depth - 1)).astype(dtype)

    return make


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Write a shell script and give its path: a program that behaves as badly as a test wants."""

    def make(body: str) -> str:
        path = tmp_path / f"program{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return make
