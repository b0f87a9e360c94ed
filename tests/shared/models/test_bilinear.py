"""torch's interpolation reproduced: every float is torch's, in both of its arithmetics."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from featlink.shared.models.interpolation import by_corners, enlarged, fused

SIDES = st.one_of(st.integers(1, 40), st.integers(41, 700))


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("channels", [1, 3])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(SIDES, SIDES), resized=st.tuples(SIDES, SIDES), seed=st.integers(0, 99))
def test_every_value_is_torchs(
    threads: int, channels: int, size: tuple[int, int], resized: tuple[int, int], seed: int
) -> None:
    planes = np.random.default_rng(seed).normal(0, 2, (channels, *size)).astype(np.float32)
    wanted = interpolate(torch.from_numpy(planes)[None], size=resized, mode="bilinear", align_corners=False)
    assert fused(channels) is not None
    for plane, expected in zip(planes, wanted[0].numpy(), strict=True):
        found = enlarged(plane, *resized, fused(channels), by_corners(channels, *resized))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="torch has one arithmetic here")
def test_both_arithmetics_are_told_apart() -> None:
    """Without the processor's FMA, torch rounds otherwise: it is told by a variable that it reads when it is loaded."""
    code = "from featlink.shared.models.interpolation import fused; print(fused(1), fused(3))"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]
    assert fused() is True
