"""One synthetic sweep for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_sweep import make_dataset, make_sweep

from featlink.report.sweep import Sweep, open_sweep


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Sweep:
    """The paper's rows, equal noise and some others; its weights are gone."""
    folder = tmp_path_factory.mktemp("sweeps") / "sweep"
    make_sweep(folder, dataset)
    return open_sweep(folder)
