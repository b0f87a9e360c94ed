"""Every script in ``examples/`` runs, anywhere, without arguments, and says what it found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import featlink

FOLDER = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = {
    "evaluate_folder.py": ["out/evaluate_folder.json"],
    "features_vs_pixels.py": [],
    "first_look.py": ["out/first_look.png"],
    "http_client.py": [],
    "own_model.py": [],
    "own_metric.py": ["out/own_metric/results.json", "out/own_metric/report.html"],
    "own_step.py": [],
    "train_one_stage.py": ["out/one_stage/one_stage.safetensors", "out/one_stage/sweep/results.json"],
    "qp_sweep_plot.py": ["out/qp_sweep.html", "out/qp_sweep/results.csv"],
}
"""What each writes."""

ARGUMENTS = {"train_one_stage.py": ["2"]}
"""Seconds of training, which takes two minutes of two cores otherwise."""
LIBRARY = {"one_stage.py"}
"""What another one imports."""


def test_all_scripts_are_tested() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} - LIBRARY == SCRIPTS.keys()


@pytest.mark.extended
@pytest.mark.parametrize(("script", "written"), SCRIPTS.items())
def test_it_runs(script: str, written: list[str], tmp_path: Path) -> None:
    root = str(Path(featlink.__file__).parents[1])
    command = [sys.executable, str(FOLDER / script), *ARGUMENTS.get(script, [])]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "AP" in done.stdout
    for name in written:
        assert (tmp_path / name).stat().st_size > 500
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}, "it writes to out/ alone"
