"""Killed at random moments, a sweep ends with what it would have had, and does nothing twice that it had stored."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import pytest

from featlink import results

KILLS = 12


def run(tiny: Path, out: Path, kills: int) -> list[results.Row]:
    script = Path(__file__).with_name("kill_loop.py")
    command = [sys.executable, str(script), str(tiny), str(out), str(kills)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), str(script.parents[2])])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return results.load(out)


def figures(rows: list[results.Row]) -> list[tuple[object, ...]]:
    """Everything but times and the ids of runs."""
    return [
        (row.id, row.condition, row.images, row.bbox, row.segm, row.fidelity, seed.seed, seed.bbox, seed.segm, seed.bpp)
        for row in rows
        for seed in row.seeds
    ]


@pytest.mark.extended
def test_killed_a_dozen_times(tiny: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    rows = run(tiny, killed, KILLS)
    assert figures(rows) == figures(run(tiny, whole, 0))
    assert {row.images for row in rows} == {3}
    for path in (whole / "detections").iterdir():
        assert (killed / "detections" / path.name).read_bytes() == path.read_bytes()

    begun: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in (tmp_path / "killed.log").read_text().splitlines():
        when, image, condition = line.split("\t")
        begun[image, condition].append(float(when))
    with sqlite3.connect(killed / "runs.sqlite") as connection:
        query = "SELECT image_id, condition, results.created FROM results JOIN runs ON runs.id = run_id"
        stored = list(connection.execute(query))
    assert len(stored) == len(begun) == 3 * (2 + 6 + 2 + 1 + 2)
    for image, condition, created in stored:
        assert max(begun[str(image), condition]) < datetime.fromisoformat(created).timestamp()
    assert sum(map(len, begun.values())) > len(begun)  # what was killed on its way was done again
