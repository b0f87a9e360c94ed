"""``featlink scenes`` writes a data set that the bench takes, and says in one line why it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featlink.cli import app
from featlink.commands.data import scenes
from featlink.dataset import ground_truth, open_dataset
from featlink.errors import CommandError


def test_a_folder_of_scenes_is_written(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    arguments = ["scenes", "--n", "3", "--seed", "7", "--out", str(out), "--art", "held-out", "--workers", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"3 scenes in {out}" in result.output.replace("\n", "")
    data = open_dataset(out)
    assert len(data.images) == 3
    annotations = json.loads(data.annotations.read_bytes())["annotations"]
    assert {annotation["style"] for annotation in annotations} == {"twemoji"}


@pytest.mark.parametrize("arguments", [["--seed", "1000"], ["--n", "0"], ["--art", "photos"]])
def test_what_is_out_of_range_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["scenes", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match=r"^cannot write scenes to .*file: ") as caught:
        scenes(tmp_path / "file", n=1, workers=1)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_of_clips_is_written(tmp_path: Path) -> None:
    arguments = [
        "scenes",
        "--clips",
        "2",
        "--frames",
        "3",
        "--motion",
        "traffic",
        "--fps",
        "10",
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(app, [*arguments, "--workers", "1"])
    assert result.exit_code == 0, result.output
    truth, _ = ground_truth(open_dataset(tmp_path))
    assert [(one.name, one.fps) for one in truth.videos] == [("traffic-01", 10), ("traffic-02", 10)]
    assert len(truth.images) == 6


@pytest.mark.slow
def test_the_clips_are_drawn_once_by_whoever_comes_first(tmp_path: Path) -> None:
    """Two processes at once get the same folder, and neither sees it half drawn."""
    code = (
        "from unittest.mock import patch\n"
        "import featlink.drawn_clips as drawn\n"
        "with patch.multiple(drawn, COUNT=4, FRAMES=2):\n"
        "    print(sum(1 for _ in drawn.drawn_clips().rglob('*.png')))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in both] == ["8", "8"]
    [folder] = (tmp_path / "featlink").iterdir()
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == ["clips"]
