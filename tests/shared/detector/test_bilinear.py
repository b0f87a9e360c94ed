"""torch's interpolation reproduced: every float is torch's, in both of its arithmetics."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from shared.detector.bilinear import enlarged, fused, reproducible

SIDES = st.one_of(st.integers(1, 40), st.integers(41, 700))


@settings(max_examples=100)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(0, 99))
def test_every_value_is_torchs(size: tuple[int, int], resized: tuple[int, int], seed: int) -> None:
    plane = np.random.default_rng(seed).normal(0, 2, size).astype(np.float32)
    wanted = interpolate(torch.from_numpy(plane)[None, None], size=resized, mode="bilinear", align_corners=False)
    assert fused() is not None
    if reproducible(*resized):
        np.testing.assert_array_equal(enlarged(plane, *resized, fused()), wanted[0, 0].numpy())


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="torch has one arithmetic here")
def test_both_arithmetics_are_told_apart() -> None:
    """Without the processor's FMA, torch rounds otherwise: it is told by a variable that it reads when it is loaded."""
    code = "from shared.detector.bilinear import fused; print(fused())"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False"]
    assert fused() is True
